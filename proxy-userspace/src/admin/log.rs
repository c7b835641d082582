//! What is logged, changed while the daemon runs.

use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::EnvFilter;

/// The filter of the log.
#[derive(Clone)]
pub struct LogControl(Arc<Shared>);

struct Shared {
    filter: Mutex<String>,
    replace: Replace,
}

type Replace = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

const REMEDY: &str =
    "write error, warn, info, debug, trace or off, and after commas TARGET=LEVEL: info,weir::health=debug";

impl LogControl {
    /// The filter that holds now, and how it is replaced.
    pub fn new(
        filter: impl Into<String>,
        replace: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            filter: Mutex::new(filter.into()),
            replace: Box::new(replace),
        }))
    }

    /// The filter that holds now.
    pub fn filter(&self) -> String {
        self.0
            .filter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Another filter.
    ///
    /// # Errors
    /// It is none: what is wrong, and the remedy.
    pub fn set(&self, filter: &str) -> Result<(), (String, String)> {
        let refused = |error: String| (format!("filter: {error}"), REMEDY.to_owned());
        let parsed = parsed(filter).map_err(refused)?;
        (self.0.replace)(parsed).map_err(refused)?;
        filter.clone_into(&mut self.0.filter.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

/// A word alone that is no level would be taken for a target, and would silence all others.
fn parsed(filter: &str) -> Result<EnvFilter, String> {
    const LONGEST: usize = 1_000;
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    if filter.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    for directive in filter.split(',') {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive));
        if !is_level && !directive.contains('=') {
            return Err(format!("{directive:?} is no level"));
        }
    }
    filter.parse().map_err(|error| format!("{filter:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for good in ["info", "DEBUG", "off", "warn,weir::health=debug"] {
            assert!(parsed(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "infoo",
            "info,",
            "info, h2=trace",
            "weir=loud",
            "info,weir",
            &"info,".repeat(1_000),
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
