//! What the API says of the daemon's own drain: whether it takes new connections, and until when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fs, os::unix::fs::MetadataExt};

/// The body of `POST /drain`; what is left out is as the config says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct DrainOrder {
    /// How long it goes on as before while it isn't ready, such as `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = DURATION))]
    pub notice: Option<String>,
    /// How long connections may go on once the listeners are closed, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = DURATION))]
    pub timeout: Option<String>,
}

/// As durations are written.
const DURATION: &str = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// What `GET`, `POST` and `DELETE /drain` answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct DrainStatus {
    /// Whether traffic should be sent here; `GET /ready` at `metrics.address` says it by its status.
    pub ready: bool,
    /// How far it is.
    pub state: DrainState,
    /// Seconds until the next state, or the daemon's end; null while it serves.
    pub seconds_left: Option<u64>,
    /// Clients' connections to L7 listeners, open now.
    pub connections: u64,
    /// The daemon's process id, in its own pid namespace.
    pub pid: u32,
    /// That namespace, by its inode as `lsns` shows it; null where there is no /proc.
    pub pid_namespace: Option<u64>,
}

/// How far a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "lowercase")]
pub enum DrainState {
    /// None is under way.
    Serving,
    /// Not ready any more; all goes on as before until those who send traffic have noticed.
    Notice,
    /// The listeners are closed, connections finish.
    Closing,
}

impl DrainState {
    /// In one word, as the API has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Notice => "notice",
            Self::Closing => "closing",
        }
    }
}

/// The pid namespace of this process: two containers have two, and share the admin socket's folder where one takes over
/// from the other.
pub fn pid_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|file| file.ino())
}
