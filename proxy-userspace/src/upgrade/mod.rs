//! From one process to the next: the running daemon hands over its sockets and lets go of the maps, and takes them back if
//! the new one doesn't get ready.
//!
//! Both speak over a UNIX socket beside the admin socket, so that nothing has to be shared but the two folders of sockets and pins:
//! no process ids, no memory. Listening sockets pass as descriptors: clients that wait at one are the new process's to accept, and
//! there is no moment in which nobody listens. Maps and links are pinned: the new process adopts them as after a restart.

mod channel;
mod predecessor;
mod successor;

pub use channel::{Answer, Channel, Offer, Request, SocketKind};
pub use predecessor::{Estate, Heir, UpgradeSocket, serve};
pub use successor::{Inheritance, Successor, request, take_over};

use std::path::{Path, PathBuf};

/// Where a daemon with this admin socket takes requests for upgrades.
pub fn socket_path(admin_socket: &Path) -> PathBuf {
    let mut name = admin_socket.as_os_str().to_owned();
    name.push(".upgrade");
    PathBuf::from(name)
}
