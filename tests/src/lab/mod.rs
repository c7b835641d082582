//! Network namespaces as a library: hosts, links, a standard topology, real servers and clients, the daemon.
//!
//! Namespaces have no names: they live as long as their [`Host`] or a process in them, so that the
//! kernel removes them and every link even when the test process is killed. Child processes die with
//! the thread that started them. What the kernel doesn't remove (temporary folders, pinned maps)
//! carries the process id in its name, and each new [`Lab`] sweeps those of dead processes.

mod admin;
mod clients;
mod command;
mod container;
mod crowd;
mod crowd_member;
mod crowd_server;
mod daemon;
mod daemon_config;
mod datagrams;
mod direct;
mod echo;
mod flood;
mod host;
mod interrupt;
mod namespace;
mod nginx;
mod oci;
mod picture;
mod pins;
mod running;
mod terminal;
mod topology;
mod traffic;
mod transfer;
mod wait;
mod wire;
mod xdp_pass;

pub use admin::{Admin, Answer};
pub use clients::{Attempt, LongConnections, NewConnections, Outcome, Protocol, ask_many, shares};
pub use command::{Finished, Process, tool};
pub use container::{Container, Image, Manifest, Node, shipped};
pub use crowd::{Crowd, Member, MemberState};
pub use crowd_server::CrowdServer;
pub use daemon::{Daemon, weir_binary};
pub(crate) use daemon::{expect_left, take_over};
pub use daemon_config::DaemonConfig;
pub use datagrams::{DatagramOutcome, NumberedDatagrams};
pub use direct::DirectSite;
pub use echo::EchoServer;
pub use flood::{Bounds, SynFlood};
pub use host::{Host, Lab};
pub use interrupt::{catch_interrupts, interrupted};
pub use namespace::Namespace;
pub use nginx::Nginx;
pub use oci::only;
pub use running::{Running, failures};
pub use terminal::Terminal;
pub use topology::{BACKENDS, Family, INTERFACES, Topology};
pub use traffic::{Traffic, Web, h2load_succeeded};
pub use transfer::{distinct_bytes, exchange, expect_any_backend, expect_datagram};
pub use wait::until;
pub use wire::{VlanTags, Wire};
