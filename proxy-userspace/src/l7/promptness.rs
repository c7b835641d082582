//! How soon a worker gets its CPU when others want it too.

use std::mem;

/// The time that a worker asks the scheduler for at once, in nanoseconds: the least there is. Who asks for less is let in sooner; its share stays the
/// same (Linux 6.12, `PREEMPT_SHORT` in kernel/sched/features.h). Requests of one turn take less than this, and what they wait behind otherwise, control's work on a
/// config or another process, takes milliseconds.
const SLICE: u64 = 100_000;

/// Lets the calling thread in before others that run for longer. Older kernels take no notice.
pub(super) fn ask_for_short_turns() {
    // SAFETY: all-zero is a valid sched_attr: integers.
    let mut attr: libc::sched_attr = unsafe { mem::zeroed() };
    attr.size = size_of::<libc::sched_attr>() as u32;
    // Policy and niceness are to stay as they are.
    // SAFETY: the kernel writes at most `size` bytes; 0 is the calling thread.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, attr.size, 0) };
    attr.sched_runtime = SLICE;
    // SAFETY: the attribute outlives the call.
    if read != 0 || unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } != 0 {
        tracing::debug!("sched_setattr: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time asked for, and the niceness.
    fn asked() -> (u64, i32) {
        // SAFETY: as above.
        let mut attr: libc::sched_attr = unsafe { mem::zeroed() };
        let size = size_of::<libc::sched_attr>() as u32;
        // SAFETY: as above.
        let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
        assert_eq!(read, 0);
        (attr.sched_runtime, attr.sched_nice)
    }

    #[test]
    fn asks_for_the_least_and_keeps_its_niceness() {
        std::thread::spawn(|| {
            rustix::process::setpriority_process(None, 3).unwrap();
            // Kernels before 6.12 have no such time, and say 0.
            let wanted = if asked().0 == 0 { 0 } else { SLICE };
            ask_for_short_turns();
            assert_eq!(asked(), (wanted, 3));
        })
        .join()
        .unwrap();
    }
}
