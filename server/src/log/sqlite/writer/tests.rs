//! Tests the answers to senders when the disk fails, with a disk that fails as scripted.

use std::collections::VecDeque;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::ErrorCode;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::log::sqlite::tests::{Applies, broadcast};

/// The behaviour of the disk for one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Good,
    Refused,
    /// The append fails, but its entry is found in the log at once.
    Late,
    /// The append fails with an unknown outcome. When the log is read again, its entry is there.
    LostAndFound,
    /// The append fails with an unknown outcome. When the log is read again, its entry is absent.
    LostAndGone,
}

#[derive(Debug, Default)]
struct Script {
    plans: VecDeque<Plan>,
    entries: Vec<Entry>,
    /// How many further attempts to read the log again will fail.
    unreadable: usize,
    resyncs: usize,
    /// Whether `Disk::finish` was called.
    finished: bool,
}

#[derive(Debug, Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

fn failed() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error { code: ErrorCode::SystemIoFailure, extended_code: 1034 },
        None,
    )
}

impl Disk for Scripted {
    fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), WriteFailure> {
        let mut script = self.0.lock();
        assert_eq!(first, script.entries.len() as u64 + 1, "nothing is written over");
        let plan = script.plans.pop_front().unwrap_or(Plan::Good);
        if matches!(plan, Plan::Good | Plan::Late | Plan::LostAndFound) {
            script.entries.extend_from_slice(entries);
        }
        let outcome = match plan {
            Plan::Good => return Ok(()),
            Plan::Refused => WriteOutcome::Absent,
            Plan::Late => WriteOutcome::Present,
            Plan::LostAndFound | Plan::LostAndGone => WriteOutcome::Unknown,
        };
        Err(WriteFailure { error: failed(), outcome })
    }

    fn resync(&mut self, head: u64, each: &mut dyn FnMut(u64, Entry)) -> rusqlite::Result<()> {
        let mut script = self.0.lock();
        script.resyncs += 1;
        if script.unreadable > 0 {
            script.unreadable -= 1;
            return Err(failed());
        }
        for (seq, entry) in (1..).zip(&script.entries).filter(|(seq, _)| *seq > head) {
            each(seq, entry.clone());
        }
        Ok(())
    }

    fn tidy(&mut self) -> rusqlite::Result<bool> {
        Ok(false)
    }

    fn finish(&mut self) -> rusqlite::Result<()> {
        self.0.lock().finished = true;
        Ok(())
    }
}

struct Running {
    disk: Scripted,
    queue: Arc<Queue>,
    applied: Arc<Applies>,
    thread: JoinHandle<()>,
}

/// The answer that a sender gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SenderReply {
    Seq(u64),
    Refused,
    Unknown,
}

impl Running {
    fn with(plans: &[Plan], unreadable: usize) -> Self {
        let disk = Scripted::default();
        *disk.0.lock() =
            Script { plans: plans.iter().copied().collect(), unreadable, ..Script::default() };
        let (queue, applied) = (Arc::new(Queue::new(1)), Arc::new(Applies::default()));
        let sink = Arc::clone(&applied) as Arc<dyn Sink>;
        let writer = Writer::new(disk.clone(), Arc::clone(&queue), sink, 0);
        let thread = std::thread::spawn(move || writer.run());
        Self { disk, queue, applied, thread }
    }

    fn append(&self, text: &str) -> SenderReply {
        let outcome = self.queue.push(broadcast(text), AppendContext::default()).unwrap();
        match outcome.blocking_recv().unwrap() {
            Ok(applied) => SenderReply::Seq(applied.seq),
            Err(refusal) => match refusal.outcome.unwrap() {
                Outcome::Refused => SenderReply::Refused,
                Outcome::Unknown => SenderReply::Unknown,
            },
        }
    }

    /// Ends the writer, and asserts that the applied entries are those on disk, in their order.
    /// Returns their messages.
    fn end(self) -> Vec<String> {
        self.queue.close();
        self.thread.join().unwrap();
        let script = self.disk.0.lock();
        assert!(script.finished);
        let on_disk: Vec<_> = (1..).zip(script.entries.iter().cloned()).collect();
        assert_eq!(self.applied.all(), on_disk);
        let text = |entry: &Entry| entry.kind.message().unwrap().as_json().to_owned();
        script.entries.iter().map(text).collect()
    }
}

#[test]
fn a_refused_append_leaves_nothing_and_the_next_takes_its_number() {
    let running = Running::with(&[Plan::Good, Plan::Refused, Plan::Refused], 0);
    let told = ["a", "b", "c", "d"].map(|text| running.append(text));
    assert_eq!(
        told,
        [SenderReply::Seq(1), SenderReply::Refused, SenderReply::Refused, SenderReply::Seq(2)]
    );
    assert_eq!(running.end(), ["\"a\"", "\"d\""]);
}

#[test]
fn an_append_that_is_there_after_all_counts() {
    let running = Running::with(&[Plan::Late], 0);
    assert_eq!(
        ["a", "b"].map(|text| running.append(text)),
        [SenderReply::Seq(1), SenderReply::Seq(2)]
    );
    assert_eq!(running.end(), ["\"a\"", "\"b\""]);
}

#[test]
fn of_an_append_that_cannot_be_read_back_nothing_is_promised() {
    let running = Running::with(&[Plan::LostAndFound], 0);
    // The entry `a` is delivered before the later entry `b`.
    assert_eq!(
        ["a", "b"].map(|text| running.append(text)),
        [SenderReply::Unknown, SenderReply::Seq(2)]
    );
    assert_eq!(running.disk.0.lock().resyncs, 1);
    assert_eq!(running.end(), ["\"a\"", "\"b\""]);

    let running = Running::with(&[Plan::LostAndGone], 0);
    assert_eq!(
        ["a", "b"].map(|text| running.append(text)),
        [SenderReply::Unknown, SenderReply::Seq(1)]
    );
    assert_eq!(running.end(), ["\"b\""]);
}

#[test]
fn nothing_is_written_before_the_log_could_be_read_anew() {
    // The first failure is that of `tidy` between the appends, the second is that of the append of
    // `b`.
    let running = Running::with(&[Plan::LostAndFound], 2);
    assert_eq!(running.append("a"), SenderReply::Unknown);
    while running.disk.0.lock().resyncs == 0 {
        std::thread::yield_now();
    }
    assert_eq!(
        ["b", "c"].map(|text| running.append(text)),
        [SenderReply::Refused, SenderReply::Seq(2)]
    );
    assert_eq!(running.end(), ["\"a\"", "\"c\""]);
}

#[test]
fn a_writer_that_ends_by_a_defect_leaves_nobody_waiting() {
    #[derive(Debug)]
    struct Defective;
    impl Disk for Defective {
        fn append(&mut self, _: u64, _: &[Entry]) -> Result<(), WriteFailure> {
            panic!("this is part of a test");
        }
        fn resync(&mut self, _: u64, _: &mut dyn FnMut(u64, Entry)) -> rusqlite::Result<()> {
            Ok(())
        }
        fn tidy(&mut self) -> rusqlite::Result<bool> {
            Ok(false)
        }
        fn finish(&mut self) -> rusqlite::Result<()> {
            Ok(())
        }
    }
    let queue = Arc::new(Queue::new(1));
    let outcomes: Vec<_> =
        (0..3).map(|_| queue.push(broadcast("x"), AppendContext::default()).unwrap()).collect();
    let sink = Arc::new(Applies::default());
    let writer = Writer::new(Defective, Arc::clone(&queue), sink, 0);
    let ended = CancellationToken::new();
    let end = crate::log::sqlite::End { queue: Arc::clone(&queue), ended: ended.clone() };
    let thread = std::thread::spawn(move || {
        let _end = end;
        writer.run();
    });
    assert!(thread.join().is_err());
    assert!(ended.is_cancelled());
    for outcome in outcomes {
        assert!(outcome.blocking_recv().is_err());
    }
    assert!(queue.push(broadcast("x"), AppendContext::default()).is_err());
}
