//! `weir top`: rates, live, on a terminal.

mod busy;
mod keys;
mod pages;
mod poll;
mod sample;
mod sheet;
mod state;
mod view;

use super::{SocketArgs, print, signals::Signals};
use anyhow::{Context, bail};
use pages::Page;
use poll::Poller;
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, Event},
        terminal,
    },
};
use sample::Sample;
use state::Top;
use std::{
    env,
    io::{self, IsTerminal},
    ops::RangeInclusive,
    sync::mpsc::{self, Sender},
    thread,
    time::Duration,
};
use view::Paint;

/// Arguments of `weir top`.
#[derive(clap::Args)]
#[command(after_help = "\
Keys: 1 to 6 or Tab for pages, arrows or j k for rows, Enter for a service's backends, Esc back, s sorts by the next column,
r reverses, / filters, p pauses, + and - change the interval, ? shows the keys, q quits. 80 by 24 is enough; what doesn't fit is
left out by importance. NO_COLOR is respected.")]
pub(super) struct TopArgs {
    /// How often the daemon is asked: 250ms to 60s.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// The page to begin with.
    #[arg(long, value_name = "NAME", default_value = "services", value_parser = ["services", "listeners", "workers", "drops", "kernel", "health"])]
    page: String,
    /// Print one page as plain text, with the rates of one interval, and end.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(60);

fn interval(typed: &str) -> Result<Duration, String> {
    crate::config::duration(typed, &INTERVALS)
}

/// What the loop waits for.
enum News {
    /// A key, or another size.
    Input(Event),
    /// The daemon's answer, or why there is none.
    Answer(Box<Result<Sample, String>>),
    /// A signal, or a terminal that is gone.
    End,
}

/// Runs until `q`, a signal, or the end of the terminal.
///
/// # Errors
/// No terminal; with `--once`, no daemon.
pub(super) fn run(args: &TopArgs) -> anyhow::Result<()> {
    let page = (Page::TABS.iter()).find(|page| page.title().eq_ignore_ascii_case(&args.page));
    let mut top = Top::new(*page.context("no such page")?, args.interval);
    if args.once {
        return once(&mut top, args);
    }
    if !io::stdout().is_terminal() {
        bail!("standard output is no terminal; use --once, or `weir status`");
    }
    let (news, arrivals) = mpsc::channel();
    watch_signals(news.clone())?;
    let poller = Poller::start(args.socket.socket.clone(), args.interval, news.clone());
    let mut screen = Screen::open()?;
    watch_input(news);
    let paint = Paint {
        has_colour: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    while !top.is_over {
        screen.draw(&top, paint)?;
        match arrivals.recv().unwrap_or(News::End) {
            News::Input(event) => {
                let key = event.as_key_event();
                if let Some(action) = key.and_then(|key| keys::action(key, top.is_typing)) {
                    top.act(action);
                    poller.pace(top.interval);
                }
            }
            News::Answer(answer) => top.take(*answer),
            News::End => break,
        }
    }
    Ok(())
}

/// Two answers, one interval apart, make one frame.
fn once(top: &mut Top, args: &TopArgs) -> anyhow::Result<()> {
    let began = std::time::Instant::now();
    for round in 0..2 {
        if round > 0 {
            thread::sleep(args.interval);
        }
        let answer = poll::ask(&args.socket.socket, began).map_err(anyhow::Error::msg)?;
        top.take(Ok(answer));
    }
    print(view::plain(top, width()).as_bytes())
}

/// The terminal's, else what COLUMNS says, else enough for most columns.
fn width() -> u16 {
    const ELSEWHERE: u16 = 120;
    if io::stdout().is_terminal()
        && let Ok((width, _)) = terminal::size()
    {
        return width;
    }
    let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or(ELSEWHERE)
}

/// The terminal while it is ours; it is given back however this ends, by a panic too.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> anyhow::Result<Self> {
        // Sets a panic hook that restores.
        Ok(Self(ratatui::try_init().context("taking over the terminal")?))
    }

    fn draw(&mut self, top: &Top, paint: Paint) -> anyhow::Result<()> {
        let draw = |frame: &mut ratatui::Frame<'_>| view::draw(top, paint, frame.area(), frame.buffer_mut());
        self.0.draw(draw).context("drawing")?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn watch_signals(news: Sender<News>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting tokio")?;
    let mut signals = {
        let _within = runtime.enter();
        Signals::take_over().context("taking over signals")?
    };
    thread::spawn(move || {
        runtime.block_on(signals.any());
        // If nobody hears it, it is over already.
        let _over = news.send(News::End);
    });
    Ok(())
}

/// Ends with the process: a read can't be interrupted.
fn watch_input(news: Sender<News>) {
    thread::spawn(move || {
        loop {
            let (arrival, is_end) = match event::read() {
                Ok(event) => (News::Input(event), false),
                Err(_) => (News::End, true),
            };
            if news.send(arrival).is_err() || is_end {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests;
