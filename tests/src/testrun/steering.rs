//! `sk_steer` under BPF_PROG_TEST_RUN: a kernel plane without interfaces, and workers that only have sockets.

use super::{BPFFS, PIN_PREFIX, remove_leftovers};
use crate::lab::tool;
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use aya_obj::generated::{bpf_attr, bpf_cmd};
use proxy_common::steer::{SteerOutcome, WorkerLoad};
use std::{
    collections::BTreeMap,
    ffi::CString,
    io, mem,
    net::{IpAddr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use weir::{
    kernel::{
        KernelPlane,
        steer::{LoadMap, LoadWriter, listening_sockets},
    },
    model::{
        DaemonSettings, NatSettings, Role, Snapshot, TunnelSettings,
        l7::{Listener, ListenerKind, Place, PortRange, TcpSettings},
    },
};

/// `SK_PASS` of the kernel's UAPI.
const SK_PASS: u32 = 1;

/// TCP's IANA protocol number.
pub const TCP: u32 = 6;

/// `struct bpf_sk_lookup` of the kernel's UAPI.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Lookup {
    cookie: u64,
    family: u32,
    protocol: u32,
    remote_ip4: u32,
    remote_ip6: [u32; 4],
    /// Network order, two bytes of padding behind.
    remote_port: [u8; 4],
    local_ip4: u32,
    local_ip6: [u32; 4],
    local_port: u32,
    ingress_ifindex: u32,
    /// The kernel wants zeros here, which padding needn't be.
    pad: u32,
}

const _: () = assert!(size_of::<Lookup>() == 72);

impl Lookup {
    fn new(protocol: u32, local: SocketAddr) -> Self {
        let mut lookup = Self {
            protocol,
            local_port: local.port().into(),
            ..Self::default()
        };
        [lookup.remote_port[0], lookup.remote_port[1]] = 40_000_u16.to_be_bytes();
        match local.ip() {
            IpAddr::V4(address) => {
                lookup.family = libc::AF_INET as u32;
                lookup.local_ip4 = u32::from_ne_bytes(address.octets());
            }
            IpAddr::V6(address) => {
                lookup.family = libc::AF_INET6 as u32;
                let octets = address.octets();
                for (word, bytes) in lookup.local_ip6.iter_mut().zip(octets.chunks_exact(4)) {
                    *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
        }
        lookup
    }
}

/// A kernel plane with nothing but L7 listeners, in this thread's network namespace. Call it inside
/// [`isolated`](super::isolated).
pub struct SteerBench {
    plane: Option<KernelPlane>,
    pins: PathBuf,
    program: OwnedFd,
    sockets: Vec<TcpListener>,
    /// Cookies of the registered sockets.
    cookies: BTreeMap<u64, usize>,
    generation: u64,
}

impl SteerBench {
    /// Loads the programs; no worker yet, no listener.
    ///
    /// # Errors
    /// What is missing, in the words of the daemon.
    pub fn open() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PIN_PREFIX}{}-steer{number}", std::process::id());
        Self::open_at(&Path::new(BPFFS).join(name))
    }

    /// The same with pins that may be there already.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(pins: &Path) -> Result<Self> {
        remove_leftovers()?;
        let up = Command::new(tool("ip")?)
            .args(["link", "set", "lo", "up"])
            .status()?;
        ensure!(up.success(), "ip link set lo up: {up}");
        let plane = KernelPlane::open(&settings(pins))?;
        let program = open_pin(&pins.join("programs/sk_steer"))?;
        Ok(Self {
            plane: Some(plane),
            pins: pins.to_owned(),
            program,
            sockets: Vec::new(),
            cookies: BTreeMap::new(),
            generation: 0,
        })
    }

    /// Closes the plane and the sockets, as a daemon's death does, and opens it again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn restart(&mut self) -> Result<()> {
        self.plane = None;
        self.sockets.clear();
        self.cookies.clear();
        self.plane = Some(KernelPlane::open(&settings(&self.pins))?);
        self.program = open_pin(&self.pins.join("programs/sk_steer"))?;
        Ok(())
    }

    /// Closes the plane and leaves its pins, as a daemon's death does.
    pub fn leave(mut self) -> PathBuf {
        self.plane = None;
        let pins = self.pins.clone();
        mem::forget(self);
        pins
    }

    /// Where maps, programs and links are pinned.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The plane under test.
    ///
    /// # Errors
    /// It was closed.
    pub fn plane(&mut self) -> Result<&mut KernelPlane> {
        self.plane.as_mut().context("the kernel plane is closed")
    }

    /// Closes the plane and takes all out of the kernel; returns what was removed.
    ///
    /// # Errors
    /// The kernel plane's.
    pub fn unload(&mut self) -> Result<Vec<String>> {
        self.plane = None;
        Ok(KernelPlane::unload(&self.pins)?)
    }

    /// Makes these the listeners' addresses; returns the number of writes.
    ///
    /// # Errors
    /// The kernel plane's.
    pub fn listen(&mut self, ranges: &[PortRange]) -> Result<usize> {
        self.generation += 1;
        let snapshot = snapshot(self.generation, ranges, &self.pins);
        Ok(self.plane()?.apply(&snapshot)?)
    }

    /// Registers workers from 0 on, each with a socket and someone who writes its load.
    ///
    /// # Errors
    /// The kernel plane's.
    pub fn workers(&mut self, count: usize) -> Result<Vec<LoadWriter>> {
        self.sockets = listening_sockets(count, None)?;
        self.cookies.clear();
        let plane = self.plane.as_mut().context("the kernel plane is closed")?;
        let mut writers = Vec::new();
        for (worker, socket) in self.sockets.iter().enumerate() {
            plane.steering().register(worker, socket.as_fd())?;
            writers.push(plane.steering().loads().writer(worker));
            self.cookies
                .insert(rustix::net::sockopt::socket_cookie(socket)?, worker);
        }
        Ok(writers)
    }

    /// Closes a worker's socket, as its thread's death does.
    pub fn close_socket(&mut self, worker: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket in the place of another");
        self.sockets[worker] = listener;
    }

    /// The workers' loads.
    ///
    /// # Errors
    /// The plane is closed.
    pub fn loads(&mut self) -> Result<Arc<LoadMap>> {
        Ok(self.plane()?.steering().loads())
    }

    /// Makes a worker look as if its last beat was so long ago.
    ///
    /// # Errors
    /// The map can't be written.
    pub fn silence(&mut self, worker: usize, nanoseconds: u64) -> Result<()> {
        let mut load = self.loads()?.load(worker);
        load.beat = load.beat.saturating_sub(nanoseconds);
        let map = Map::Array(MapData::from_pin(self.pins.join("worker_loads"))?);
        let mut map: Array<_, WorkerLoad> = map.try_into()?;
        Ok(map.set(worker as u32, load, 0)?)
    }

    /// Which worker gets a connection to this address; none if it is left to ordinary sockets.
    ///
    /// # Errors
    /// The kernel refused to run the program, or the program dropped the connection.
    pub fn lookup(&self, protocol: u32, local: SocketAddr) -> Result<Option<usize>> {
        let (cookie, _) = self.run(Lookup::new(protocol, local), 1)?;
        if cookie == 0 {
            return Ok(None);
        }
        let worker = self.cookies.get(&cookie);
        Ok(Some(
            *worker.context("steered to a socket that isn't a worker's")?,
        ))
    }

    /// How many of `count` connections each worker gets.
    ///
    /// # Errors
    /// As [`Self::lookup`]; or one is steered to none.
    pub fn shares(&self, local: SocketAddr, count: usize) -> Result<Vec<usize>> {
        let mut shares = vec![0; self.sockets.len()];
        for _ in 0..count {
            shares[self.lookup(TCP, local)?.context("not steered")?] += 1;
        }
        Ok(shares)
    }

    /// The mean time of a lookup.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn time(&self, protocol: u32, local: SocketAddr, repeat: u32) -> Result<Duration> {
        Ok(self.run(Lookup::new(protocol, local), repeat)?.1)
    }

    /// How often each outcome was.
    ///
    /// # Errors
    /// The kernel plane's.
    pub fn outcomes(&mut self) -> Result<Vec<(SteerOutcome, u64)>> {
        Ok(self.plane()?.counters()?.steering)
    }

    fn run(&self, mut context: Lookup, repeat: u32) -> Result<(u64, Duration)> {
        // SAFETY: all-zero is a valid bpf_attr.
        let mut attr: bpf_attr = unsafe { mem::zeroed() };
        // SAFETY: a plain struct's fields in a union of plain structs.
        let test = unsafe { &mut attr.test };
        test.prog_fd = self.program.as_raw_fd() as u32;
        test.repeat = repeat;
        let size = size_of::<Lookup>() as u32;
        (test.ctx_in, test.ctx_size_in) = (&raw const context as u64, size);
        (test.ctx_out, test.ctx_size_out) = (&raw mut context as u64, size);
        call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).context("BPF_PROG_TEST_RUN of sk_steer")?;
        // SAFETY: as above.
        let (verdict, nanoseconds) = unsafe { (attr.test.retval, attr.test.duration) };
        ensure!(verdict == SK_PASS, "sk_steer returned {verdict}");
        Ok((context.cookie, Duration::from_nanos(nanoseconds.into())))
    }
}

impl Drop for SteerBench {
    fn drop(&mut self) {
        self.plane = None;
        if let Err(error) = KernelPlane::unload(&self.pins) {
            eprintln!("{}: {error}", self.pins.display());
        }
    }
}

fn open_pin(path: &Path) -> Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid bpf_attr.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.__bindgen_anon_4.pathname = text.as_ptr() as u64;
    let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attr).with_context(|| format!("open {}", path.display()))?;
    // SAFETY: the kernel made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    let attr: *mut bpf_attr = attr;
    // SAFETY: the attribute and what it points to outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

fn settings(pins: &Path) -> DaemonSettings {
    DaemonSettings {
        interfaces: Vec::new(),
        pin_path: pins.to_owned(),
        admin_socket: "/run/weir-test-unused.sock".into(),
        admin: Default::default(),
        metrics_address: None,
        dns_servers: Vec::new(),
        workers: None,
        pin_workers: false,
        nat: NatSettings {
            source_ipv4: None,
            source_ipv6: None,
            ports: (1_024, 32_767),
        },
        max_services: 8,
        max_backends: 8,
        max_flows: 64,
        max_tracked_flows: 64,
        max_fragments: 0,
        max_affinities: 64,
        new_flows_per_second: None,
        upgrade: Default::default(),
        drain: Default::default(),
        memory_limit: None,
        tracing: None,
        tunnel: TunnelSettings::default(),
        role: Role::Balancer,
        decap_vips: Vec::new(),
        decap_segment: None,
    }
}

/// A TCP listener for each range.
fn snapshot(generation: u64, ranges: &[PortRange], pins: &Path) -> Snapshot {
    let listener = |(at, range): (usize, &PortRange)| Listener {
        name: format!("listener-{at}").into(),
        place: Place {
            file: Path::new("test.yaml").into(),
            line: 1,
        },
        addresses: vec![*range],
        proxy_protocol: false,
        tls: None,
        max_connections: 1_000,
        kind: ListenerKind::Tcp {
            settings: Arc::new(TcpSettings {
                sni: Vec::new(),
                cluster: None,
                idle_timeout: Duration::from_secs(60),
            }),
            access_log: None,
        },
    };
    Snapshot {
        generation,
        services: Arc::default(),
        listeners: Arc::new(ranges.iter().enumerate().map(listener).collect()),
        clusters: Arc::default(),
        settings: Arc::new(settings(pins)),
    }
}
