//! `weir monitor`: what happens to packets, as it happens.

mod filter;
mod frame;
mod output;
mod pcap;
mod sighting;

use super::{SocketArgs, signals::Signals};
use crate::{
    admin::{call, status::Status},
    kernel::EventReader,
    model::DaemonSettings,
};
use anyhow::Context;
use filter::{Filter, FilterArgs};
use hyper::Method;
use output::Output;
use proxy_common::events::{Event, RING};
use sighting::{ServiceNames, Witness};
use std::{
    io,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    time::{MissedTickBehavior, interval},
};

/// Arguments of `weir monitor`.
#[derive(clap::Args)]
#[command(after_help = "\
Packets that are forwarded in a known flow are not shown: `weir status` counts them. Filters of different kinds must all
hold; of one kind that is repeated, any. They are applied to the sample. Times are UTC. Ends with SIGINT or SIGTERM.")]
pub(super) struct MonitorArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Write the first 128 bytes of each packet to this file, for `tcpdump -r`; - is standard output, instead of lines.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// One event in N, at random: what the kernel is asked for.
    #[arg(long, value_name = "N", default_value = "1")]
    sample: NonZeroU32,
    /// The directory on a bpffs where maps are pinned.
    #[arg(long, value_name = "PATH", default_value = DaemonSettings::PIN_PATH)]
    pin_path: PathBuf,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How often the kernel is asked for what no event says: losses, new services, whether the maps are still there.
const ROUND: Duration = Duration::from_secs(1);

/// Events between two looks at signals.
const BATCH: usize = 512;

/// As many as a full ring holds.
const BATCHES_AT_THE_END: usize = RING as usize / size_of::<Event>() / BATCH + 1;

/// Shows events until a signal comes, enough of them have, or nobody reads on.
///
/// # Errors
/// No kernel plane there, somebody reads its events already, or a filter names what isn't there.
pub(super) fn run(args: &MonitorArgs) -> anyhow::Result<()> {
    let names = service_names(&args.socket.socket);
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("starting tokio")?.block_on(monitor(args, names)) {
        // `weir monitor | head` is no error.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

async fn monitor(args: &MonitorArgs, names: ServiceNames) -> anyhow::Result<()> {
    // First: from here on a signal doesn't leave the programs telling.
    let signals = Signals::take_over().context("taking over signals")?;
    let mut reader = EventReader::open(&args.pin_path, args.sample)?;
    let filter = Filter::new(&args.filter, reader.names(), &names, &args.socket.socket)?;
    let mut monitor = Monitor {
        filter,
        output: Output::new(args.json, args.pcap.as_deref())?,
        witness: Witness::new(names),
        left: args.count.map(NonZeroU64::get),
        received: 0,
        lost: 0,
    };
    monitor.watch(reader, signals).await
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The listeners' names, if there is a daemon that tells them; those of services that come later stay unknown.
fn service_names(socket: &Path) -> ServiceNames {
    let body = call(socket, Method::GET, "/status", None::<&()>).ok();
    let status = body.and_then(|body| serde_json::from_slice::<Status>(&body).ok());
    let services = status.map(|status| status.services).unwrap_or_default();
    let named = services
        .into_iter()
        .map(|service| ((service.address, service.protocol), service.name));
    named.collect()
}

/// What runs.
struct Monitor {
    filter: Filter,
    output: Output,
    witness: Witness,
    /// Events still to be shown.
    left: Option<u64>,
    received: u64,
    lost: u64,
}

impl Monitor {
    async fn watch(&mut self, reader: EventReader, mut signals: Signals) -> anyhow::Result<()> {
        // SAFETY: the descriptor is the reader's own ring's, the same as long as the reader lives.
        let reader = unsafe { AsyncFd::register_with_interest(reader, Interest::READABLE) };
        let mut reader = (reader.map_err(io::Error::from)).context("waiting for the ring buffer")?;
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = signals.any() => break,
                _ = rounds.tick() => {
                    reader.get_mut().renew()?;
                    self.witness.renew();
                    self.say_lost(reader.get_ref())?;
                }
                ready = reader.readable_mut() => {
                    let mut ready = ready.context("waiting for the ring buffer")?;
                    if self.take(ready.get_inner_mut())? {
                        ready.clear_ready();
                    }
                    if self.left == Some(0) {
                        break;
                    }
                }
            }
        }
        // What is in the ring by now; a flood would never end.
        for _ in 0..BATCHES_AT_THE_END {
            if self.left == Some(0) || self.take(reader.get_mut())? {
                break;
            }
        }
        self.say_lost(reader.get_ref())?;
        let (shown, received) = (self.output.shown(), self.received);
        eprintln!("{shown} events shown of {received} received, {} lost", self.lost);
        Ok(())
    }

    /// Shows what is there; false: there is more.
    fn take(&mut self, reader: &mut EventReader) -> anyhow::Result<bool> {
        self.witness.set_clock();
        let mut is_drained = false;
        for _ in 0..BATCH {
            if self.left == Some(0) {
                break;
            }
            let Some(event) = reader.next_event() else {
                is_drained = true;
                break;
            };
            self.received += 1;
            let sighting = self.witness.sighting(&event, reader.names());
            if self.filter.takes(&sighting) {
                self.output.show(&sighting, &event)?;
                self.left = self.left.map(|left| left - 1);
            }
        }
        self.output.flush()?;
        Ok(is_drained)
    }

    fn say_lost(&mut self, reader: &EventReader) -> anyhow::Result<()> {
        let lost = reader.lost()?;
        if lost > self.lost {
            let more = lost - self.lost;
            eprintln!(
                "weir: {more} events lost: they come faster than they are read; --sample N asks for fewer"
            );
            self.lost = lost;
        }
        Ok(())
    }
}
