//! What can go wrong between the daemon and the kernel: one line, with the remedy.

use std::{error::Error, io};

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
    #[error("the map {map} holds at most {limit}; raise {key}, then `weir unload` and start again")]
    Full {
        /// The map.
        map: &'static str,
        /// Its size.
        limit: u32,
        /// The config key that sizes it.
        key: &'static str,
    },
}

impl KernelError {
    /// Something missing, and what to do.
    pub(super) fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Missing {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// An operation that failed: with the whole chain of causes, and as [`Self::Missing`] where the
    /// cause is a lack of privilege.
    pub(super) fn refused(operation: impl Into<String>, error: impl Error + 'static) -> Self {
        let operation = operation.into();
        let mut reason = error.to_string();
        let mut source: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<io::Error>()
                // EPERM, not EACCES, which is the verifier's word for a program it refuses.
                && io.raw_os_error() == Some(libc::EPERM)
            {
                return Self::missing(
                    format!("{operation}: not permitted"),
                    "run as root or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN, or use --no-kernel",
                );
            }
            let words = cause.to_string();
            if !reason.contains(&words) {
                reason = format!("{reason}: {words}");
            }
            source = cause.source();
        }
        Self::Refused { operation, reason }
    }
}
