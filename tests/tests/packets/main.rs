//! Packet tables: what it is, packet in, verdict, packet out; through the real program by TestRun, with
//! the model beside it.

mod affinity;
mod agree;
mod budget;
mod egress;
mod events;
mod fixture;
mod flows;
mod fragments;
mod icmp;
mod nat;
mod parsing;
mod quic;
mod reasons;
mod segments;
mod sweeps;
