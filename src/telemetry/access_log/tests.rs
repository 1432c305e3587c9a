use std::collections::VecDeque;
use std::fs;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::line::tests::plain;
use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// An output in memory that can be closed like a pipe that nobody reads, and told to fail.
#[derive(Clone, Default)]
struct Pipe(Arc<(Mutex<Inside>, Condvar)>);

#[derive(Default)]
struct Inside {
    written: Vec<u8>,
    writes: u32,
    blocked: bool,
    /// Whether the thread is in a write that waits.
    waiting: bool,
    answers: VecDeque<Result<usize, io::ErrorKind>>,
    reopened: usize,
}

impl Pipe {
    fn change(&self, change: impl FnOnce(&mut Inside)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn wait_for(&self, condition: impl Fn(&Inside) -> bool) {
        let guard = self.0.0.lock().unwrap();
        let (_guard, timeout) = self.0.1.wait_timeout_while(guard, LIMIT, |inside| !condition(inside)).unwrap();
        assert!(!timeout.timed_out());
    }

    fn paths(&self) -> Vec<String> {
        let written = String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap();
        paths(&written)
    }
}

impl Sink for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (inside, changed) = &*self.0;
        let mut inside = inside.lock().unwrap();
        inside.waiting = true;
        inside.writes += 1;
        changed.notify_all();
        inside = changed.wait_while(inside, |inside| inside.blocked).unwrap();
        inside.waiting = false;
        let some = match inside.answers.pop_front() {
            Some(Err(kind)) => return Err(kind.into()),
            Some(Ok(some)) => some.min(bytes.len()),
            None => bytes.len(),
        };
        inside.written.extend(&bytes[..some]);
        changed.notify_all();
        Ok(some)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.change(|inside| inside.reopened += 1);
        Ok(())
    }
}

fn paths(text: &str) -> Vec<String> {
    let path = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["path"].as_str().map(str::to_owned);
    text.lines().filter_map(path).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("/{n}")).collect()
}

fn log_all(log: &AccessLog, paths: &[String]) {
    paths.iter().for_each(|path| log.log(&plain(path)));
}

#[test]
fn a_log_that_is_off_takes_nothing_and_ends_at_once() {
    let (log, worker) = AccessLog::start(LogOutput::Off, 10, Arc::default()).unwrap();
    assert!(!log.enabled());
    log.log(&plain("/"));
    log.reopen();
    assert_eq!((log.dropped(), worker.finish(Duration::ZERO)), (0, Flushed::All));
}

#[test]
fn every_line_is_in_the_file_in_order_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let (log, worker) = AccessLog::start(LogOutput::File(path.clone()), 10_000, Arc::default()).unwrap();
    log_all(&log, &numbers(0..5_000));
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    assert_eq!(paths(&fs::read_to_string(path).unwrap()), numbers(0..5_000));
    log.log(&plain("/late"));
    assert_eq!(log.dropped(), 1, "what comes after the end is counted");
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    fs::write(&path, "{\"path\":\"/old\"}\n").unwrap();
    let (log, worker) = AccessLog::start(LogOutput::File(path.clone()), 10, Arc::default()).unwrap();
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    log.log(&plain("/new"));
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    assert_eq!(paths(&fs::read_to_string(moved).unwrap()), ["/old"], "what was there is kept");
    assert_eq!(paths(&fs::read_to_string(path).unwrap()), ["/new"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let path = PathBuf::from("/nonexistent/access.log");
    let error = AccessLog::start(LogOutput::File(path), 10, Arc::default()).unwrap_err();
    assert!(error.to_string().starts_with("cannot open the access log `/nonexistent/access.log`: "), "{error}");
}

#[test]
fn an_output_that_blocks_costs_lines_and_never_the_caller() {
    let pipe = Pipe::default();
    pipe.change(|inside| inside.blocked = true);
    let (log, worker) = AccessLog::with(pipe.clone(), 16, Arc::default()).unwrap();
    log.log(&plain("/0"));
    pipe.wait_for(|inside| inside.waiting);
    log_all(&log, &numbers(1..101)); // returns although nothing is written
    assert_eq!(log.dropped(), 100 - 16);
    pipe.change(|inside| inside.blocked = false);
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    assert_eq!(pipe.paths(), numbers(0..17));
}

#[test]
fn the_end_does_not_wait_longer_than_it_was_told() {
    let pipe = Pipe::default();
    pipe.change(|inside| inside.blocked = true);
    let (log, worker) = AccessLog::with(pipe.clone(), 16, Arc::default()).unwrap();
    log.log(&plain("/"));
    pipe.wait_for(|inside| inside.waiting);
    assert_eq!(worker.finish(Duration::from_millis(1)), Flushed::TimedOut);
    pipe.change(|inside| inside.blocked = false);
}

#[test]
fn a_full_queue_keeps_nobody_from_reopening_and_stopping() {
    let pipe = Pipe::default();
    pipe.change(|inside| inside.blocked = true);
    let (log, worker) = AccessLog::with(pipe.clone(), 2, Arc::default()).unwrap();
    log.log(&plain("/0"));
    pipe.wait_for(|inside| inside.waiting);
    log_all(&log, &numbers(1..9));
    log.reopen();
    log.shared.stop.store(true, Ordering::Release);
    pipe.change(|inside| inside.blocked = false);
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    pipe.wait_for(|inside| inside.reopened == 1);
    assert_eq!((pipe.paths(), log.dropped()), (numbers(0..3), 6));
}

#[test]
fn lines_that_a_failing_output_did_not_take_are_counted_and_the_next_begin_anew() {
    let pipe = Pipe::default();
    pipe.change(|inside| {
        inside.blocked = true;
        // The first batch is interrupted, refused once, torn after 20 bytes and then fails.
        let full = io::ErrorKind::StorageFull;
        inside.answers = [Err(io::ErrorKind::Interrupted), Err(io::ErrorKind::WouldBlock), Ok(20), Err(full)].into();
    });
    let (log, worker) = AccessLog::with(pipe.clone(), 100, Arc::default()).unwrap();
    log.log(&plain("/torn"));
    pipe.wait_for(|inside| inside.waiting);
    log_all(&log, &numbers(0..3));
    pipe.change(|inside| inside.blocked = false);
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    assert_eq!((pipe.paths(), log.dropped()), (numbers(0..3), 1));
}

#[test]
fn every_line_is_written_or_counted_when_many_log_at_once() {
    let pipe = Pipe::default();
    let (log, worker) = AccessLog::with(pipe.clone(), 64, Arc::default()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| log_all(&log, &numbers(0..2_000)));
        }
    });
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    assert_eq!(pipe.paths().len() as u64 + log.dropped(), 8_000);
}

#[test]
fn lines_of_one_thread_stay_in_order_and_all_are_there_after_the_end() {
    let pipe = Pipe::default();
    let (log, worker) = AccessLog::with(pipe.clone(), 100_000, Arc::default()).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || (0..5_000).for_each(|n| log.log(&plain(&format!("/{thread}/{n}")))));
        }
    });
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    assert_eq!(log.dropped(), 0);
    let paths = pipe.paths();
    for thread in 0..4 {
        let expected: Vec<_> = numbers(0..5_000).iter().map(|n| format!("/{thread}{n}")).collect();
        let own: Vec<_> = paths.iter().filter(|path| path.starts_with(&format!("/{thread}/"))).collect();
        assert!(own.iter().copied().eq(&expected), "{own:?}");
    }
}

#[test]
fn many_lines_are_written_with_few_calls() {
    let pipe = Pipe::default();
    let (log, worker) = AccessLog::with(pipe.clone(), 100_000, Arc::default()).unwrap();
    let began = Instant::now();
    log_all(&log, &numbers(0..20_000));
    let gathered = u32::try_from(began.elapsed().as_millis() / 100).unwrap();
    assert_eq!(worker.finish(LIMIT), Flushed::All);
    let inside = pipe.0.0.lock().unwrap();
    let full = u32::try_from(inside.written.len() / buffers::BATCH_BYTES).unwrap();
    // Each full buffer wakes the writer once, which may find it written already, and some of the next.
    assert!(inside.writes <= 2 * full + gathered + 4, "{} writes, {full} full buffers", inside.writes);
}

#[test]
fn the_writer_is_woken_by_a_full_buffer_and_by_the_first_line_after_a_quiet_time() {
    let buffers = LineBuffers::new(100_000);
    let line = plain("/");
    assert_eq!(buffers.append(&line), Appended::Quietly);
    buffers.fall_asleep();
    assert_eq!(buffers.append(&line), Appended::Wake);
    assert_eq!(buffers.append(&line), Appended::Quietly, "once");
    let woken = (0..1_000).filter(|_| buffers.append(&line) == Appended::Wake).count();
    assert_eq!(woken, 1, "when it has 64 KiB, and not again");
    buffers.close();
    assert_eq!(buffers.append(&line), Appended::Refused);
}

#[test]
fn a_buffer_is_bounded_by_bytes_too() {
    let path = format!("/{}", "\u{1}".repeat(1_000));
    let line = plain(&path);
    let (mut taken, mut count) = (Vec::new(), 0_u64);
    let buffers = LineBuffers::new(usize::MAX);
    while buffers.append(&line) != Appended::Refused {
        count += 1;
    }
    (0..buffers.len()).for_each(|at| buffers.take(at, &mut taken));
    assert_eq!(taken.iter().filter(|byte| **byte == b'\n').count() as u64, count);
    assert!((4 << 20..(4 << 20) + 8_192).contains(&taken.len()), "{}", taken.len());
}

#[test]
fn the_thread_ends_when_nobody_is_left_to_log() {
    let pipe = Pipe::default();
    let (log, LogWriter { log: own, done }) = AccessLog::with(pipe.clone(), 64, Arc::default()).unwrap();
    log.log(&plain("/last"));
    drop((log, own));
    assert_eq!(done.unwrap().recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
    assert_eq!(pipe.paths(), ["/last"]);
}
