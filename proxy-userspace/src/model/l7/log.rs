//! Access logs.

use std::{path::Path, sync::Arc};

/// Where and how requests are logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessLog {
    /// Where to.
    pub target: LogTarget,
    /// One line's form.
    pub format: LogFormat,
}

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Appended to a file, which is opened again on SIGHUP.
    File(Arc<Path>),
}

/// A line's form, with Envoy's operators: `%REQ(NAME)%`, `%RESPONSE_CODE%`, `%DURATION%`, … Checked when the config is
/// read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text with operators.
    Text(Arc<str>),
    /// A JSON object: keys, and texts with operators.
    Json(Arc<[(Box<str>, Box<str>)]>),
}
