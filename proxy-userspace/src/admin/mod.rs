//! The admin API: HTTP/1.1 with JSON over a UNIX socket.

pub mod status;
