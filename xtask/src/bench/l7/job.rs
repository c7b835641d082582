//! What every proxy is asked to do in a scenario, in no proxy's words.

use std::{fmt::Write, net::SocketAddr};

/// One proxy's work.
#[derive(Clone)]
pub struct Job {
    /// What is spoken on both sides.
    pub kind: Kind,
    /// What requests are matched against.
    pub routes: Routes,
    /// Where clients connect.
    pub from: SocketAddr,
    /// The one endpoint.
    pub to: SocketAddr,
}

/// What is spoken on both sides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1 on both.
    Http1,
    /// TLS 1.3 with HTTP/2 or HTTP/1.1 by ALPN from clients, HTTP/1.1 upstream.
    Tls,
    /// HTTP/2 with prior knowledge on both.
    H2c,
    /// Bytes.
    Tcp,
}

/// A path prefix a route, spread evenly over hosts; all lead to the one endpoint.
#[derive(Clone, Copy)]
pub struct Routes {
    /// How many; 0 stands for a route that takes everything.
    pub count: usize,
    /// Over how many hosts; divides `count`.
    pub hosts: usize,
}

impl Routes {
    /// One that takes everything.
    pub const ANY: Self = Self { count: 0, hosts: 0 };

    /// A host's name.
    pub fn host(host: usize) -> String {
        format!("host-{host}.example")
    }

    /// The prefix of the nth route.
    pub fn prefix(route: usize) -> String {
        format!("/service-{route}/")
    }

    /// The routes of a host.
    pub fn of_host(self, host: usize) -> std::ops::Range<usize> {
        let each = self.count / self.hosts.max(1);
        host * each..(host + 1) * each
    }

    /// A line for every host and route, made by `line` from the host's name and the route's prefix.
    pub fn lines(self, line: impl Fn(&str, &str) -> String) -> String {
        let mut text = String::new();
        for host in 0..self.hosts {
            let name = Self::host(host);
            for route in self.of_host(host) {
                // Writing to a String can't fail.
                let _ = writeln!(text, "{}", line(&name, &Self::prefix(route)));
            }
        }
        text
    }
}

/// Upstream connections kept, and requests at a time, by those that bound them: more than any scenario has.
pub const CONNECTIONS: u32 = 4_096;
