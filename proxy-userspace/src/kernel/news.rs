//! News of the host's interfaces, addresses and routes. They only wake: what is so then is asked for.

use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};
use std::{collections::BTreeSet, io, os::fd::OwnedFd, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until},
};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `_ROUTE`, `RTMGRP_IPV6_IFADDR`, `_ROUTE` of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// `RTM_NEWADDR`, `RTM_DELADDR` of the same.
const ADDRESS_CHANGES: [u16; 2] = [20, 21];

/// Bytes of a netlink message's header, and where in `struct ifaddrmsg` the interface's index is.
const HEADER: usize = 16;
const ADDRESS_IFINDEX: usize = HEADER + 4;

/// `RT_SCOPE_LINK`, and where an address's scope is.
const LINK_SCOPE: u8 = 253;
const ADDRESS_SCOPE: usize = HEADER + 3;

/// News come in bursts: making an interface is a dozen.
const GATHERED: Duration = Duration::from_millis(50);

/// What has happened since one asked last.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct News {
    /// Indices of interfaces that addresses came to or went from; not those that are good for their link alone.
    pub addresses_of: BTreeSet<u32>,
}

/// Waits for news.
pub struct NewsWatch {
    socket: AsyncFd<OwnedFd>,
    /// There are news, which have until then to be followed by others.
    due: Option<Instant>,
}

impl NewsWatch {
    /// Listens in the calling thread's network namespace, from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Without a protocol it is NETLINK_ROUTE, number 0.
        let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        // SAFETY: an OwnedFd is the same open descriptor as long as it lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, due: None })
    }

    /// The next news, a burst at once. Nothing is lost when it is dropped while it waits.
    pub async fn next(&mut self) -> News {
        let due = match self.due {
            Some(due) => due,
            None => {
                let _ready = self.socket.readable().await;
                *self.due.insert(Instant::now() + GATHERED)
            }
        };
        sleep_until(due).await;
        self.due = None;
        let mut news = News::default();
        let Ok(mut ready) = self.socket.readable().await else {
            return news;
        };
        let mut datagram = vec![0; DATAGRAM];
        let receive = |socket: &AsyncFd<OwnedFd>, datagram: &mut [u8]| -> io::Result<usize> {
            Ok(net::recv(socket.get_ref(), datagram, RecvFlags::empty())?.0)
        };
        while let Ok(received) = ready.try_io(|socket| receive(socket, &mut datagram)) {
            // An error is that more was said than there was room for: what was lost is found by the look that follows.
            if let Ok(length) = received {
                read(&datagram[..length], &mut news);
            }
        }
        news
    }
}

/// More than the kernel puts into one (NLMSG_GOODSIZE).
const DATAGRAM: usize = 32 * 1024;

fn read(datagram: &[u8], news: &mut News) {
    let mut rest = datagram;
    while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else {
            return;
        };
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let index = message.get(ADDRESS_IFINDEX..).and_then(<[u8]>::first_chunk);
        if let (true, Some(index)) = (ADDRESS_CHANGES.contains(&kind), index)
            && message[ADDRESS_SCOPE] != LINK_SCOPE
        {
            news.addresses_of.insert(u32::from_ne_bytes(*index));
        }
        // Messages are padded to 4 bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}
