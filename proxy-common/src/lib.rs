//! What the kernel programs and the daemon must agree on, without dependencies and without `std`.
#![no_std]
#![cfg_attr(not(feature = "aya"), forbid(unsafe_code))]

#[cfg(any(feature = "user", test))]
extern crate std;

pub mod affinity;
pub mod checksum;
pub mod counters;
pub mod decap;
pub mod events;
pub mod fragments;
pub mod guard;
pub mod hash;
pub mod headers;
pub mod keys;
pub mod limits;
#[cfg(any(feature = "user", test))]
pub mod maglev;
pub mod net;
#[cfg(feature = "aya")]
mod pod;
pub mod probe_mark;
pub mod quic;
pub mod ranges;
pub mod steer;
pub mod values;
pub mod verdict;
