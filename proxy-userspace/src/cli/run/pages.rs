//! How the kernel gives the daemon memory.

/// Keeps pages small. The allocator asks for huge ones, of which an idle daemon has a little in each: with them it takes 9 MiB more, and requests are no
/// faster. Its threads share this setting, and a process that it starts keeps it (PR_SET_THP_DISABLE, prctl(2)).
pub(super) fn keep_small() {
    // SAFETY: a prctl without pointers.
    if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } != 0 {
        tracing::debug!("pages stay as they are: {}", std::io::Error::last_os_error());
    }
}
