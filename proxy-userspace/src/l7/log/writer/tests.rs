//! Lines arrive whole and in order, a slow or full target costs lines but no time, and every line is written or counted.

use super::*;
use crate::l7::log::{Entry, Format, Logger};
use crate::model::l7::LogFormat;
use std::{fs, io::Read, path::PathBuf, sync::atomic::AtomicU32, time::SystemTime};

/// A directory of its own, gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-log-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn target(&self, name: &str) -> LogTarget {
        LogTarget::File(self.0.join(name).into())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn logger(sink: &Arc<Sink>) -> Logger {
    let format = LogFormat::Text("%CONNECTION_ID% %REQ(:PATH)%".into());
    Logger::new(Arc::clone(sink), Arc::new(Format::new(&format).unwrap()))
}

fn line(number: u64) -> Entry<'static> {
    Entry {
        connection_id: number,
        path: Some("/some/path/of/usual/length?with=query"),
        ..Entry::new(SystemTime::UNIX_EPOCH)
    }
}

fn numbers(text: &str) -> Vec<u64> {
    text.lines()
        .map(|line| {
            let (number, rest) = line.split_once(' ').unwrap();
            assert_eq!(rest, "/some/path/of/usual/length?with=query");
            number.parse().unwrap()
        })
        .collect()
}

#[test]
fn lines_of_several_workers_arrive_whole_and_in_their_order() {
    let directory = Directory::new();
    let writers = Writers::start().unwrap();
    let sink = writers.open(&directory.target("a")).unwrap();
    let again = writers.open(&directory.target("a")).unwrap();
    assert!(Arc::ptr_eq(&sink, &again), "one file, one sink");
    thread::scope(|scope| {
        for worker in 0..4u64 {
            let sink = &sink;
            scope.spawn(move || {
                let logger = logger(sink);
                for number in 0..5_000 {
                    logger.log(&line(worker * 1_000_000 + number));
                }
            });
        }
    });
    writers.drain();
    assert_eq!(sink.dropped(), 0);
    let found = numbers(&directory.read("a"));
    for worker in 0..4 {
        let of_worker = found.iter().filter(|number| **number / 1_000_000 == worker);
        assert!(of_worker.map(|number| number % 1_000_000).eq(0..5_000));
    }
}

#[test]
fn flush_hands_over_and_the_end_writes() {
    let directory = Directory::new();
    let writers = Writers::start().unwrap();
    let sink = writers.open(&directory.target("a")).unwrap();
    let logger = logger(&sink);
    assert!(logger.flush(), "nothing to do");
    logger.log(&line(1));
    writers.drain();
    assert_eq!(directory.read("a"), "", "it is the worker's still");
    assert!(logger.flush());
    writers.drain();
    assert_eq!(numbers(&directory.read("a")), [1]);
    logger.log(&line(2));
    drop(logger);
    drop(writers);
    assert_eq!(numbers(&directory.read("a")), [1, 2]);
}

#[test]
fn opened_again_after_a_rotation() {
    let directory = Directory::new();
    let writers = Writers::start().unwrap();
    let sink = writers.open(&directory.target("a")).unwrap();
    let logger = logger(&sink);
    let write = |number| {
        logger.log(&line(number));
        logger.flush();
        writers.drain();
    };
    write(1);
    fs::rename(directory.0.join("a"), directory.0.join("a.1")).unwrap();
    write(2);
    writers.reopen();
    writers.drain();
    write(3);
    assert_eq!(numbers(&directory.read("a.1")), [1, 2]);
    assert_eq!(numbers(&directory.read("a")), [3]);
    // What can't be opened again stays open.
    fs::rename(&directory.0, directory.0.with_extension("away")).unwrap();
    writers.reopen();
    writers.drain();
    write(4);
    fs::rename(directory.0.with_extension("away"), &directory.0).unwrap();
    assert_eq!(numbers(&directory.read("a")), [3, 4]);
}

#[test]
fn what_cannot_be_opened_is_named() {
    let writers = Writers::start().unwrap();
    let target = LogTarget::File(Path::new("/nonexistent/directory/log").into());
    let error = writers.open(&target).unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/directory/log") && error.contains("No such file"),
        "{error}"
    );
}

/// A full disk: lines wait within a bound, others are counted, and what waits is written when there is room.
#[test]
fn a_full_disk_is_tried_again() {
    let directory = Directory::new();
    let link = directory.0.join("a");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let writers = Writers::start().unwrap();
    let full = writers.open(&directory.target("a")).unwrap();
    let fine = writers.open(&directory.target("b")).unwrap();
    let (one, other) = (logger(&full), logger(&fine));
    let buffers = BACKLOG as u64 + 4;
    for number in 0..buffers {
        for logger in [&one, &other] {
            logger.log(&line(number));
            assert!(logger.flush());
            writers.drain();
        }
    }
    assert_eq!((full.dropped(), fine.dropped()), (4, 0));
    fs::remove_file(&link).unwrap();
    writers.reopen();
    writers.drain();
    assert!(numbers(&directory.read("a")).into_iter().eq(0..BACKLOG as u64));
    assert!(numbers(&directory.read("b")).into_iter().eq(0..buffers));
}

/// A pipe that nobody reads: the thread is stuck, the worker is not. Everything is written in the end, or counted.
#[test]
fn a_stuck_reader_costs_lines_but_never_a_wait() {
    let directory = Directory::new();
    let path = directory.0.join("pipe");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &path,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    let writers = Writers::start().unwrap();
    let target = directory.target("pipe");
    let error = writers.open(&target).unwrap_err().to_string();
    assert!(error.contains("pipe"), "without a reader: {error}");
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&path)
        .unwrap();
    fcntl_setfl(&reader, OFlags::empty()).unwrap();
    let sink = writers.open(&target).unwrap();
    let logger = logger(&sink);
    // More than queue, backlog and pipe hold together.
    let mut logged = 0;
    while sink.dropped() < 1_000 {
        logger.log(&line(logged));
        logged += 1;
    }
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    // With a reader, there is room again, and the last lines get through.
    while !logger.flush() {
        thread::yield_now();
    }
    writers.drain();
    let dropped = sink.dropped();
    drop((logger, sink, writers));
    let found = numbers(&reading.join().unwrap());
    assert_eq!(found.len() as u64 + dropped, logged);
    assert!(found.is_sorted());
}

#[test]
fn buffers_are_used_again_and_files_are_closed() {
    let directory = Directory::new();
    let writers = Writers::start().unwrap();
    let sink = writers.open(&directory.target("a")).unwrap();
    let logger = logger(&sink);
    logger.log(&line(0));
    let first = logger.buffer.borrow().as_ptr();
    logger.flush();
    writers.drain();
    logger.log(&line(1));
    assert_eq!(logger.buffer.borrow().as_ptr(), first);
    let weak = Arc::downgrade(&sink);
    drop((logger, sink));
    writers.drain();
    assert!(weak.upgrade().is_none());
    assert!(lock(&writers.sinks).is_empty());
    assert_eq!(numbers(&directory.read("a")), [0, 1]);
}

#[test]
fn counts_of_loggers_that_ended_stay() {
    let directory = Directory::new();
    let writers = Writers::start().unwrap();
    let sink = writers.open(&directory.target("a")).unwrap();
    let logger = logger(&sink);
    logger.drop_lines(3);
    assert_eq!(sink.dropped(), 3);
    drop(logger);
    assert_eq!(sink.dropped(), 3);
    assert!(lock(&sink.loggers).running.is_empty());
}
