//! Waiting for a condition with a deadline: never a sleep in place of a condition.

use anyhow::{Context, Result};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two looks at a condition: short against what is waited for, long against a look's cost.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks at a condition again and again until it gives a value.
///
/// # Errors
/// It gave none within `limit`; the message says what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        let left = deadline.checked_duration_since(Instant::now());
        left.with_context(|| format!("waited {limit:?} in vain for {what}"))?;
        thread::sleep(PAUSE);
    }
}
