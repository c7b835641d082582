//! `weir run`: the daemon from start to stop, in order.

use crate::{
    admin::{self, AdminSocket, metrics::MetricsSocket},
    config::{self, Loaded},
    control::{self, ConfigWatch, Core, Handle, Plane, Signals},
    discovery::Discovery,
    kernel::{
        KernelPlane,
        steer::{self, LoadWriter},
    },
    l7::L7Plane,
    model::DaemonSettings,
};
use anyhow::{Context, bail};
use std::{
    env,
    io::{self, IsTerminal},
    path::PathBuf,
    thread,
    time::Duration,
};
use tokio::runtime;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Arguments of `weir run`.
#[derive(clap::Args, Default)]
#[command(after_help = "\
SIGHUP reads the config again; so does a change of its files. SIGTERM and SIGINT stop the daemon.
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
    let mut watch = ConfigWatch::new(&args.config);
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
    runtime.block_on(async {
        let signals = Signals::take_over().context("taking over signals")?;
        // Before the kernel plane: it is also the lock that keeps a second daemon from touching
        // the first one's maps.
        let socket = AdminSocket::bind(&config.settings.admin_socket)?;
        let metrics = match config.settings.metrics_address {
            Some(address) => Some(MetricsSocket::bind(address).await?),
            None => None,
        };
        let plane = open_plane(args, &config)?;
        let mut discovery = Discovery::new(&config.settings.dns_servers);
        discovery.follow(&config.clusters);
        let resolved = discovery.first(FIRST_ANSWERS).await;
        let core = Core::start(args.config.clone(), config, resolved, plane)?;
        watch.follow(core.referenced_files());
        let (control, events) = Handle::new();
        let server = tokio::spawn(admin::serve(socket, control.clone()));
        let scraped = metrics.map(|metrics| tokio::spawn(metrics.serve(control.clone())));
        let watching = tokio::spawn(watch.report_to(control));
        info!("ready: {}", core.summary());
        // Health checks run as long as this does.
        control::run(core, events, signals, discovery).await;
        watching.abort();
        server.abort();
        scraped.inspect(tokio::task::JoinHandle::abort);
        Ok(())
    })
}

/// How long a start waits for DNS; names that take longer have no endpoints until then.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

fn open_plane(args: &RunArgs, config: &Loaded) -> anyhow::Result<Plane> {
    let settings = &config.settings;
    if args.no_kernel {
        return Ok(Plane::absent(
            "--no-kernel",
            start_workers(args, settings, Vec::new())?,
        ));
    }
    let only_l7 = config.services.is_empty() && !config.listeners.is_empty();
    if settings.interfaces.is_empty() && !only_l7 {
        bail!(
            "{} lists no interfaces to attach to; add `interfaces: [eth0]`, or run with --no-kernel",
            args.config.display()
        );
    }
    match KernelPlane::open(settings) {
        Ok(plane) => steered(args, settings, plane),
        // L7 listeners do without it, on ordinary sockets.
        Err(error) if settings.interfaces.is_empty() => {
            info!("no kernel plane: {error}");
            Ok(Plane::absent(
                error.to_string(),
                start_workers(args, settings, Vec::new())?,
            ))
        }
        // Lack of privilege names it already.
        Err(error) if error.to_string().contains("--no-kernel") => Err(error.into()),
        Err(error) => bail!("{error}, or run with --no-kernel"),
    }
}

/// Workers that the kernel plane gives connections to.
fn steered(args: &RunArgs, settings: &DaemonSettings, mut plane: KernelPlane) -> anyhow::Result<Plane> {
    let loads = plane.steering().loads();
    let count = worker_count(args, settings);
    let writers = (0..count).map(|worker| loads.writer(worker)).collect();
    let l7 = start_workers(args, settings, writers)?;
    Ok(Plane::kernel(plane, l7, steer::listening_sockets(count)?))
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
