//! How much CPU time the daemon's workers have had: from /proc, where their threads have names.

use std::{fs, time::Duration};

/// The CPU time of threads `worker-0` and so on; none for those that can't be seen, as from another PID namespace.
pub(super) fn cpu_times(pid: u32, workers: usize) -> Vec<Option<Duration>> {
    let mut times = vec![None; workers];
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return times;
    };
    for thread in threads.flatten() {
        // A thread that ended meanwhile has no file.
        let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else {
            continue;
        };
        if let Some((number, time)) = worker_time(&stat, rustix::param::clock_ticks_per_second())
            && let Some(slot) = times.get_mut(number)
        {
            *slot = Some(time);
        }
    }
    times
}

/// A worker's number and its time in user and kernel mode, from the line that proc_pid_stat(5) describes.
fn worker_time(stat: &str, ticks_per_second: u64) -> Option<(usize, Duration)> {
    // The name is in brackets and may hold any character: the last bracket ends it.
    let (_, named) = stat.split_once('(')?;
    let (name, rest) = named.rsplit_once(") ")?;
    let number = name.strip_prefix("worker-")?.parse().ok()?;
    // utime and stime are fields 14 and 15; `rest` begins with the third.
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some((
        number,
        Duration::from_nanos(ticks * (1_000_000_000 / ticks_per_second.max(1))),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        let line =
            |name: &str| format!("77 ({name}) S 1 77 77 0 -1 4194368 5 0 0 0 250 50 0 0 20 0 9 0 1234 0 0\n");
        let three_seconds = Duration::from_secs(3);
        assert_eq!(worker_time(&line("worker-12"), 100), Some((12, three_seconds)));
        for name in ["weir", "worker-", "worker-x", "weir-log", "a) S ("] {
            assert_eq!(worker_time(&line(name), 100), None, "{name}");
        }
        assert_eq!(worker_time("77 (worker-1) S 1", 100), None);
    }

    #[test]
    fn nobody_is_there() {
        // Pid 0 has no directory.
        assert_eq!(cpu_times(0, 2), [None, None]);
    }
}
