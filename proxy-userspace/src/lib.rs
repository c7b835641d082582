//! Weir's userspace half, in the order data flows: config → model → control → kernel → admin.

pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod health;
pub mod kernel;
pub mod model;
