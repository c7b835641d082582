//! `weir run`: the daemon from start to stop, in order.

mod doors;
mod flood;
mod logging;
mod pages;

use crate::{
    admin::{self, Access, Audit, LogControl},
    config::{self, Loaded},
    control::{self, Companions, ConfigWatch, Core, End, Handle, Inputs, Plane, Signals, Stay, service},
    discovery::Discovery,
    kernel::{
        KernelPlane,
        steer::{self, LoadMap},
    },
    l7::{L7Plane, panics},
    model::{AdminSettings, DaemonSettings},
    upgrade::{self, Estate, Heir, Inheritance, Successor},
};
use anyhow::{Context, bail};
use doors::{Doors, Inherited, give_away};
use flood::Flood;
use logging::LogForm;
use std::{
    env,
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{runtime, sync::mpsc, task::JoinHandle};
use tracing::{error, info};

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
    /// When another process has taken over from this one, stay at least this long, without connections too: where what ends is started
    /// again, as in Kubernetes, until the orchestrator has told this one to end. SIGTERM ends it at once.
    #[arg(long, value_name = "DURATION", value_parser = linger)]
    pub(super) linger: Option<Duration>,
    /// What to log: error, warn, info, debug, trace, or a filter such as weir::health=debug.
    /// Default: the environment's RUST_LOG, else info.
    #[arg(long, value_name = "FILTER")]
    pub(super) log: Option<String>,
    /// The form of a line of the log.
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub(super) log_format: LogForm,
}

fn linger(typed: &str) -> Result<Duration, String> {
    config::duration(typed, &(Duration::ZERO..=Duration::MAX))
}

/// Runs until a signal stops it.
///
/// # Errors
/// Whatever keeps the daemon from starting, with the remedy.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    pages::keep_small();
    let watch = ConfigWatch::new(&args.config);
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            bail!("not started; correct {}", args.config.display());
        }
    };
    let (log, flood) = start_logging(args)?;
    panics::watch();
    control::raise_limit();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting tokio")?;
    let served = AssertUnwindSafe(|| runtime.block_on(serve(args, config, watch, log)));
    let outcome = catch_unwind(served).unwrap_or_else(|_| {
        // At once: what a thread of its own still did could not be changed any more, and a service manager starts another.
        error!("control panicked; the kernel goes on forwarding; start weir again");
        process::exit(PANICKED)
    });
    flood.tell(true);
    outcome
}

/// What Rust's own handler exits with.
const PANICKED: i32 = 101;

async fn serve(args: &RunArgs, config: Loaded, watch: ConfigWatch, log: LogControl) -> anyhow::Result<()> {
    let signals = Signals::take_over().context("taking over signals")?;
    let settings = config.settings.clone();
    let mut before = None;
    if args.take_over {
        before =
            upgrade::take_over(&settings.admin_socket).context("taking over from the daemon that runs")?;
    }
    let daemon = match before {
        // The admin socket comes before the kernel plane: it is also the lock that keeps a second daemon from touching the
        // first one's maps.
        None => Daemon::start(args, config, Doors::open(&settings)?, Sockets::default(), signals).await?,
        Some((successor, inheritance)) => succeed(args, config, (successor, inheritance), signals).await?,
    };
    daemon
        .take_turns(watch, log, args.linger.unwrap_or_default())
        .await
}

/// Becomes the daemon in the place of the one before, which goes on if anything here fails.
async fn succeed(
    args: &RunArgs,
    config: Loaded,
    (successor, inheritance): (Successor, Inheritance),
    signals: Signals,
) -> anyhow::Result<Daemon> {
    let settings = config.settings.clone();
    let Inheritance {
        admin,
        upgrade,
        steered,
        listeners,
        metrics,
        remote,
    } = inheritance;
    let started = async {
        let doors = Doors::inherit(&settings, (admin, upgrade), Inherited { metrics, remote })?;
        Daemon::start(args, config, doors, Sockets { steered, listeners }, signals).await
    };
    match started.await {
        Ok(mut daemon) => {
            successor
                .ready()
                .context("the daemon before this one took all back")?;
            daemon.doors.own()?;
            Ok(daemon)
        }
        Err(error) => {
            successor.fail(&format!("{error:#}"));
            Err(error)
        }
    }
}

/// Both planes at the first Snapshot, and nobody served yet but clients.
struct Daemon {
    core: Core,
    discovery: Discovery,
    signals: Signals,
    doors: Doors,
    audit: Arc<Audit>,
    access: Arc<Access>,
    settings: DaemonSettings,
}

impl Daemon {
    async fn start(
        args: &RunArgs,
        config: Loaded,
        doors: Doors,
        sockets: Sockets,
        signals: Signals,
    ) -> anyhow::Result<Self> {
        let settings = config.settings.clone();
        let companions = companions(&settings.admin)?;
        let (audit, access) = (Arc::clone(&companions.audit), Arc::clone(&companions.access));
        let plane = open_plane(args, &config, sockets)?;
        let mut discovery = Discovery::new(&settings.dns_servers);
        discovery.follow(&config.clusters);
        let resolved = discovery.first(FIRST_ANSWERS).await;
        let core = Core::start(args.config.clone(), config, resolved, plane, companions)?;
        Ok(Self {
            core,
            discovery,
            signals,
            doors,
            audit,
            access,
            settings,
        })
    }

    /// Serves until a signal, or until another process has taken over and the last connection has ended.
    async fn take_turns(
        self,
        mut watch: ConfigWatch,
        log: LogControl,
        linger: Duration,
    ) -> anyhow::Result<()> {
        let Self {
            mut core, settings, ..
        } = self;
        watch.follow(core.referenced_files());
        let (control, events) = Handle::new();
        let (steps, receiver) = mpsc::channel(1);
        let addressed = self.doors.duplicates()?;
        let files = self.doors.given_away();
        let Doors {
            admin,
            upgrade: socket,
            metrics,
            remote,
        } = self.doors;
        let estate = Estate {
            socket,
            admin: admin.share(),
            addressed,
            steps,
            heir: Heir::of_this_process().context("finding this program")?,
            ready_timeout: settings.upgrade.ready,
        };
        await_heirs(estate)?;
        let context = admin::Context {
            control: control.clone(),
            log,
            audit: self.audit,
        };
        let api = tokio::spawn(admin::serve(admin, context.clone()));
        let mut tasks: Vec<JoinHandle<()>> = Vec::new();
        if let Some((_, listener)) = remote {
            let listener = tokio::net::TcpListener::from_std(listener).context("admin.address")?;
            let server = admin::serve_tcp(listener, self.access, context);
            tasks.push(tokio::spawn(async move { drop(server.await) }));
        }
        if let Some(metrics) = metrics {
            tasks.push(tokio::spawn(metrics.serve(control.clone())));
        }
        tasks.push(tokio::spawn(watch.report_to(control)));
        let summary = core.summary();
        announce(&summary);
        let mut inputs = Inputs {
            events,
            steps: receiver,
            signals: self.signals,
            discovery: self.discovery,
        };
        let path = settings.admin_socket.clone();
        // Health checks run as long as this does.
        let end = control::run(&mut core, &mut inputs, || upgrade_now(path.clone())).await;
        tasks.iter().for_each(JoinHandle::abort);
        if matches!(end, End::Left(..)) {
            give_away(&files);
        }
        api.abort();
        if let End::Left(waiting, signal) = end {
            let _gone = api.await;
            let _gone = waiting.send(());
            let stay = Stay::new(linger, settings.upgrade.drain);
            control::drain(&mut core, &mut inputs.signals, signal, stay).await;
        }
        Ok(())
    }
}

/// It serves now, says so to people and to the service manager, and needs no longer what the start took.
fn announce(summary: &str) {
    info!("ready: {summary}");
    service::ready(summary);
    pages::give_back();
}

fn await_heirs(estate: Estate) -> anyhow::Result<()> {
    let thread = thread::Builder::new().name("upgrade".into());
    thread
        .spawn(move || upgrade::serve(estate))
        .context("starting a thread")?;
    Ok(())
}

/// As `weir upgrade` asks for it; what comes of it is in the log.
fn upgrade_now(path: PathBuf) {
    thread::spawn(move || upgrade::request(&path, None));
}

/// What the admin API and control share: an audit log, and who may come in.
fn companions(settings: &AdminSettings) -> anyhow::Result<Companions> {
    Ok(Companions {
        audit: Arc::new(Audit::open(settings.audit_log.as_deref())?),
        access: Arc::new(Access::new(settings.remote.as_ref())?),
    })
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
        let mut l7 = start_workers(args, settings, None)?;
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
    let l7 = start_workers(args, settings, Some(loads))?;
    // Those of a process before this one all stay: clients wait at each.
    if sockets.len() < count {
        sockets.extend(steer::listening_sockets(count - sockets.len(), sockets.first())?);
    }
    Ok(Plane::kernel(plane, l7, sockets))
}

fn start_workers(
    args: &RunArgs,
    settings: &DaemonSettings,
    loads: Option<Arc<LoadMap>>,
) -> anyhow::Result<L7Plane> {
    let pinned = args.pin_workers || settings.pin_workers;
    Ok(L7Plane::start(worker_count(args, settings), pinned, loads)?)
}

fn worker_count(args: &RunArgs, settings: &DaemonSettings) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let typed = args.workers.or(settings.workers);
    typed.map_or_else(cores, usize::from).max(1)
}

/// By the argument, the environment, or what is worth reading.
fn start_logging(args: &RunArgs) -> anyhow::Result<(LogControl, Arc<Flood>)> {
    let filter = args
        .log
        .clone()
        .or_else(|| env::var("RUST_LOG").ok())
        .filter(|filter| !filter.is_empty());
    logging::start(filter.unwrap_or_else(|| "info".into()), args.log_format)
}
