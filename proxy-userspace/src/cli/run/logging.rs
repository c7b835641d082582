//! The daemon's own log: where it goes, in which form, and that a flood of one line doesn't drown the others.

use super::flood::{Flood, FloodLayer};
use crate::admin::LogControl;
use anyhow::Context;
use std::{
    io::{self, IsTerminal},
    sync::Arc,
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// A line's form.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in crate::cli) enum LogForm {
    /// For people.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// To stderr; with colours when somebody looks at it.
pub(super) fn start(filter: String, form: LogForm) -> anyhow::Result<(LogControl, Arc<Flood>)> {
    let parsed: EnvFilter = filter
        .parse()
        .with_context(|| format!("{filter} is no log filter; use error, warn, info, debug or trace"))?;
    let (parsed, handle) = reload::Layer::<EnvFilter, Registry>::new(parsed);
    let lines = match form {
        LogForm::Text => {
            let lines = fmt::layer().with_writer(io::stderr).with_target(false);
            lines.with_ansi(io::stderr().is_terminal()).boxed()
        }
        LogForm::Json => {
            let lines = fmt::layer().with_writer(io::stderr).json().flatten_event(true);
            lines.with_current_span(false).with_span_list(false).boxed()
        }
    };
    let flood = Arc::new(Flood::default());
    Arc::clone(&flood)
        .tell_from_a_thread()
        .context("starting a thread")?;
    tracing_subscriber::registry()
        .with(parsed)
        .with(lines)
        .with(FloodLayer(Arc::clone(&flood)))
        .init();
    let control = LogControl::new(filter, move |filter| {
        handle.reload(filter).map_err(|error| error.to_string())
    });
    Ok((control, flood))
}
