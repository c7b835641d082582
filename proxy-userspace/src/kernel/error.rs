//! What can go wrong between the daemon and the kernel: one line, with the remedy.

/// An error of the kernel plane.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The machine lacks something: the line says what and how to get it.
    #[error("{what}; {remedy}")]
    Missing {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The kernel refused an operation.
    #[error("{operation}: {reason}")]
    Refused {
        /// What was tried, on what.
        operation: String,
        /// The kernel's or aya's words.
        reason: String,
    },
    /// A map is full.
    #[error("{map} holds at most {limit}; raise {key} and restart after `weir unload`")]
    Full {
        /// The map.
        map: &'static str,
        /// Its size.
        limit: u32,
        /// The config key that sizes it.
        key: &'static str,
    },
}
