//! `weir run`: the daemon from start to stop, in order.

use crate::{
    admin::{self, AdminSocket, metrics::MetricsSocket},
    config::{self, Loaded},
    control::{self, ConfigWatch, Core, End, Handle, Inputs, Plane, Signals, service},
    discovery::Discovery,
    kernel::{
        KernelPlane,
        steer::{self, LoadWriter},
    },
    l7::L7Plane,
    model::{DaemonSettings, UpgradeTimeouts},
    upgrade::{self, Estate, Heir, Inheritance, UpgradeSocket},
};
use anyhow::{Context, bail};
use std::{
    env,
    io::{self, IsTerminal},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};
use tokio::{runtime, sync::mpsc, task::JoinHandle};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Arguments of `weir run`.
#[derive(clap::Args, Default)]
#[command(after_help = "\
SIGHUP reads the config again; so does a change of its files. SIGUSR2 upgrades to the program that stands where this one was started
from, as `weir upgrade` does. SIGTERM and SIGINT stop the daemon.
The kernel goes on forwarding then; `weir unload` ends that.")]
pub(super) struct RunArgs {
    /// A YAML file, or a directory of them.
    #[arg(value_name = "CONFIG")]
    pub(super) config: PathBuf,
    /// Run without the kernel plane: needs no privileges; only listeners with `routes` or `tcp` are served.
    #[arg(long)]
    pub(super) no_kernel: bool,
    /// Worker threads of the L7 plane. Default: the config's `workers`, else one a core.
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<u16>,
    /// Pin worker N to the N-th CPU that weir may run on.
    #[arg(long)]
    pub(super) pin_workers: bool,
    /// If a daemon is running with this admin socket, become the daemon in its place: it hands over its sockets once this one serves, and
    /// goes on if this one fails.
    #[arg(long)]
    pub(super) take_over: bool,
    /// What to log: error, warn, info, debug, trace, or a filter such as weir::health=debug.
    /// Default: the environment's RUST_LOG, else info.
    #[arg(long, value_name = "FILTER")]
    pub(super) log: Option<String>,
}

/// Runs until a signal stops it.
///
/// # Errors
/// Whatever keeps the daemon from starting, with the remedy.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let watch = ConfigWatch::new(&args.config);
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            bail!("not started; correct {}", args.config.display());
        }
    };
    start_logging(args)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting tokio")?;
    runtime.block_on(serve(args, config, watch))
}

async fn serve(args: &RunArgs, config: Loaded, watch: ConfigWatch) -> anyhow::Result<()> {
    let signals = Signals::take_over().context("taking over signals")?;
    let settings = (config.settings.admin_socket.clone(), config.settings.upgrade);
    let (path, timeouts) = settings;
    let mut before = None;
    if args.take_over {
        before = upgrade::take_over(&path).context("taking over from the daemon that runs")?;
    }
    let Some((successor, inheritance)) = before else {
        // Before the kernel plane: it is also the lock that keeps a second daemon from touching the first one's maps.
        let admin = AdminSocket::bind(&path)?;
        let socket =
            UpgradeSocket::bind(&upgrade::socket_path(&path)).context("making the socket for upgrades")?;
        let metrics = open_metrics(&config, Vec::new())?;
        let plane = open_plane(args, &config, Sockets::default())?;
        let (core, discovery) = start(args, config, plane).await?;
        let doors = Doors {
            admin,
            upgrade: socket,
            metrics,
        };
        return take_turns(core, (signals, discovery), doors, timeouts, watch).await;
    };
    let Inheritance {
        admin,
        upgrade: socket,
        steered,
        listeners,
        metrics,
    } = inheritance;
    let started = async {
        let admin = AdminSocket::inherited(admin, &path).context("taking the admin socket over")?;
        let metrics = open_metrics(&config, metrics)?;
        let plane = open_plane(args, &config, Sockets { steered, listeners })?;
        anyhow::Ok((admin, metrics, start(args, config, plane).await?))
    };
    match started.await {
        Ok((admin, metrics, (core, discovery))) => {
            successor
                .ready()
                .context("the daemon before this one took all back")?;
            let doors = Doors {
                admin,
                upgrade: UpgradeSocket::inherited(socket, &upgrade::socket_path(&path)),
                metrics,
            };
            take_turns(core, (signals, discovery), doors, timeouts, watch).await
        }
        Err(error) => {
            successor.fail(&format!("{error:#}"));
            Err(error)
        }
    }
}

/// Where others than clients come in.
struct Doors {
    admin: AdminSocket,
    upgrade: UpgradeSocket,
    metrics: Option<MetricsSocket>,
}

/// The socket of `metrics.address`: that of the process before this one, if it had it at the same address.
fn open_metrics(
    config: &Loaded,
    inherited: Vec<(SocketAddr, TcpListener)>,
) -> anyhow::Result<Option<MetricsSocket>> {
    let Some(address) = config.settings.metrics_address else {
        return Ok(None);
    };
    let mut inherited = inherited.into_iter();
    let before = inherited.find_map(|(at, socket)| (at == address).then_some(socket));
    Ok(Some(MetricsSocket::open(address, before)?))
}

/// The first Snapshot, in both planes.
async fn start(args: &RunArgs, config: Loaded, plane: Plane) -> anyhow::Result<(Core, Discovery)> {
    let mut discovery = Discovery::new(&config.settings.dns_servers);
    discovery.follow(&config.clusters);
    let resolved = discovery.first(FIRST_ANSWERS).await;
    Ok((
        Core::start(args.config.clone(), config, resolved, plane)?,
        discovery,
    ))
}

/// Serves until a signal, or until another process has taken over and the last connection has ended.
async fn take_turns(
    mut core: Core,
    (signals, discovery): (Signals, Discovery),
    doors: Doors,
    timeouts: UpgradeTimeouts,
    mut watch: ConfigWatch,
) -> anyhow::Result<()> {
    let Doors {
        admin,
        upgrade: socket,
        metrics,
    } = doors;
    watch.follow(core.referenced_files());
    let (control, events) = Handle::new();
    let (steps, receiver) = mpsc::channel(1);
    let estate = Estate {
        socket,
        admin: admin.duplicates().context("sharing the admin socket")?,
        metrics: match &metrics {
            Some(metrics) => Some(
                metrics
                    .duplicate()
                    .context("sharing the socket of metrics.address")?,
            ),
            None => None,
        },
        steps,
        heir: Heir::of_this_process().context("finding this program")?,
        ready_timeout: timeouts.ready,
    };
    thread::Builder::new()
        .name("upgrade".into())
        .spawn(move || upgrade::serve(estate))
        .context("starting a thread")?;
    let (path, given_away) = (admin.path().to_path_buf(), admin.given_away());
    let server = tokio::spawn(admin::serve(admin, control.clone()));
    let scraped = metrics.map(|metrics| tokio::spawn(metrics.serve(control.clone())));
    let watching = tokio::spawn(watch.report_to(control));
    let summary = core.summary();
    info!("ready: {summary}");
    service::ready(&summary);
    let mut inputs = Inputs {
        events,
        steps: receiver,
        signals,
        discovery,
    };
    // Health checks run as long as this does.
    let end = control::run(&mut core, &mut inputs, || upgrade_now(path.clone())).await;
    watching.abort();
    scraped.inspect(JoinHandle::abort);
    if let End::Left(waiting) = end {
        given_away.store(true, Ordering::Relaxed);
        server.abort();
        let _gone = server.await;
        let _gone = waiting.send(());
        control::drain(&mut core, &mut inputs.signals, timeouts.drain).await;
    } else {
        server.abort();
    }
    Ok(())
}

/// As `weir upgrade` asks for it; what comes of it is in the log.
fn upgrade_now(path: PathBuf) {
    thread::spawn(move || upgrade::request(&path, None));
}

/// How long a start waits for DNS; names that take longer have no endpoints until then.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// What the process before this one accepted from.
#[derive(Default)]
struct Sockets {
    steered: Vec<TcpListener>,
    listeners: Vec<(SocketAddr, TcpListener)>,
}

fn open_plane(args: &RunArgs, config: &Loaded, sockets: Sockets) -> anyhow::Result<Plane> {
    let settings = &config.settings;
    let unsteered = |reason: &str, sockets: Sockets| -> anyhow::Result<Plane> {
        let mut l7 = start_workers(args, settings, Vec::new())?;
        l7.inherit(sockets.listeners);
        Ok(Plane::absent(reason, l7))
    };
    if args.no_kernel {
        return unsteered("--no-kernel", sockets);
    }
    let only_l7 = config.services.is_empty() && !config.listeners.is_empty();
    if settings.interfaces.is_empty() && !only_l7 {
        bail!(
            "{} lists no interfaces to attach to; add `interfaces: [eth0]`, or run with --no-kernel",
            args.config.display()
        );
    }
    match KernelPlane::open(settings) {
        Ok(plane) => steered(args, settings, plane, sockets.steered),
        // L7 listeners do without it, on ordinary sockets.
        Err(error) if settings.interfaces.is_empty() => {
            info!("no kernel plane: {error}");
            unsteered(&error.to_string(), sockets)
        }
        // Lack of privilege names it already.
        Err(error) if error.to_string().contains("--no-kernel") => Err(error.into()),
        Err(error) => bail!("{error}, or run with --no-kernel"),
    }
}

/// Workers that the kernel plane gives connections to.
fn steered(
    args: &RunArgs,
    settings: &DaemonSettings,
    mut plane: KernelPlane,
    mut sockets: Vec<TcpListener>,
) -> anyhow::Result<Plane> {
    let loads = plane.steering().loads();
    let count = worker_count(args, settings);
    let writers = (0..count).map(|worker| loads.writer(worker)).collect();
    let l7 = start_workers(args, settings, writers)?;
    // Those of a process before this one all stay: clients wait at each.
    if sockets.len() < count {
        sockets.extend(steer::listening_sockets(count - sockets.len(), sockets.first())?);
    }
    Ok(Plane::kernel(plane, l7, sockets))
}

fn start_workers(
    args: &RunArgs,
    settings: &DaemonSettings,
    loads: Vec<LoadWriter>,
) -> anyhow::Result<L7Plane> {
    let pinned = args.pin_workers || settings.pin_workers;
    Ok(L7Plane::start(worker_count(args, settings), pinned, loads)?)
}

fn worker_count(args: &RunArgs, settings: &DaemonSettings) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let typed = args.workers.or(settings.workers);
    typed.map_or_else(cores, usize::from).max(1)
}

/// To stderr; with colours when somebody looks at it.
fn start_logging(args: &RunArgs) -> anyhow::Result<()> {
    let filter = args
        .log
        .clone()
        .or_else(|| env::var("RUST_LOG").ok())
        .filter(|filter| !filter.is_empty());
    let filter = filter.unwrap_or_else(|| "info".into());
    let filter: EnvFilter = filter
        .parse()
        .with_context(|| format!("{filter} is no log filter; use error, warn, info, debug or trace"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}
