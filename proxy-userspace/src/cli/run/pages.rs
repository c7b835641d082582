//! How the kernel gives the daemon memory.

/// Keeps pages small, from before the config is read. The allocator asks for huge ones, of which an idle daemon has a little in each: with them it takes 6 MiB
/// more, and requests are no faster. Its threads share this setting, and a process that it starts keeps it (PR_SET_THP_DISABLE, prctl(2)).
pub(super) fn keep_small() {
    // Nothing depends on it, and there is no log yet.
    // SAFETY: a prctl without pointers.
    let _refused = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Gives back what the start took and freed: to load programs the kernel's own type information is read, some 25 MiB of which the allocator
/// would keep a part.
pub(super) fn give_back() {
    // SAFETY: the allocator's own, safe at any time; it looks at what is free.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
