//! Weir's userspace half, in the order data flows: config → model → control → {kernel, l7} → admin.

pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
mod descriptors;
pub mod discovery;
pub mod health;
pub mod kernel;
pub mod l7;
pub mod model;
pub mod upgrade;
