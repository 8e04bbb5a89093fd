//! The thread that writes. It writes each batch of entries in one transaction with one sync. Then
//! the sink applies the entries, and the senders get their answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{Queue, QueuedAppend};
use super::store::{Disk, WriteFailure, WriteOutcome};
use crate::entry::{AppendContext, Appended, Entry};
use crate::log::answer::AppendAnswer;
use crate::log::{Counts, Sink};
use crate::protocol::Outcome;

/// How often an idle writer trims and checkpoints.
const IDLE: Duration = Duration::from_secs(1);
/// How long the writer waits after trimming or a checkpoint has failed, before it tries again.
const PAUSE: Duration = Duration::from_secs(5);
/// No append may fail for this time before the writer logs that its trouble is over. On an almost
/// full disk, small messages fit and large ones do not; without this time, each change would be
/// logged.
const CALM: Duration = Duration::from_secs(1);

pub(super) struct Writer<D> {
    disk: D,
    queue: Arc<Queue>,
    sink: Arc<dyn Sink>,
    pub(super) counts: Arc<Counts>,
    /// The number of the last entry that the sink has applied.
    head: u64,
    /// Whether the disk may have entries after `head`, which must be read before the next write.
    must_resync: bool,
    trouble: Option<Trouble>,
    /// The time of the next attempt to trim, if the last one failed.
    untidy_until: Option<Instant>,
}

/// A period in which appends fail.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    latest: Instant,
    /// Whether an append has succeeded since the latest failure.
    better: bool,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(disk: D, queue: Arc<Queue>, sink: Arc<dyn Sink>, head: u64) -> Self {
        let (must_resync, trouble, untidy_until) = (false, None, None);
        let counts = Arc::default();
        Self { disk, queue, sink, counts, head, must_resync, trouble, untidy_until }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut batch = Vec::new();
        let mut more = false;
        while self.queue.take(&mut batch, if more { Duration::ZERO } else { IDLE }) {
            if !batch.is_empty() {
                self.write(&mut batch);
            }
            more = self.tidy();
            self.out_of_trouble();
        }
        if let Err(error) = self.disk.finish() {
            // Nothing is lost, because the next start also reads the WAL.
            tracing::debug!(%error, "the log could not be merged into one file; nothing is lost");
        }
    }

    /// Writes the entries of `batch` and answers their senders. `batch` is empty afterwards.
    fn write(&mut self, batch: &mut Vec<QueuedAppend>) {
        if let Err(error) = self.resync() {
            self.in_trouble(&error);
            return self.fail(batch.drain(..).map(|waiting| waiting.answer), Outcome::Refused);
        }
        let (entries, senders): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|append| (append.entry, (append.context, append.answer))).unzip();
        let begun = Instant::now();
        let appended = self.disk.append(self.head + 1, &entries);
        self.counts.commits.lock().note(begun.elapsed());
        let outcome = match appended {
            Ok(()) => WriteOutcome::Present,
            Err(WriteFailure { error, outcome }) => {
                self.in_trouble(&error);
                outcome
            }
        };
        let failed = match outcome {
            WriteOutcome::Present => {
                self.counts.appended(entries.len());
                if let Some(trouble) = &mut self.trouble {
                    trouble.better = true;
                }
                for (entry, (context, answer)) in entries.iter().zip(senders) {
                    answer.send(self.apply(entry, context));
                }
                return;
            }
            WriteOutcome::Absent => Outcome::Refused,
            WriteOutcome::Unknown => {
                self.must_resync = true;
                Outcome::Unknown
            }
        };
        self.fail(senders.into_iter().map(|(_, answer)| answer), failed);
    }

    /// Counts and answers appends that have failed.
    fn fail(&self, answers: impl ExactSizeIterator<Item = AppendAnswer>, outcome: Outcome) {
        self.counts.failed(answers.len(), outcome);
        let why = match outcome {
            Outcome::Refused => "the disk takes nothing more at present; the server's log says why",
            Outcome::Unknown => {
                "the disk failed, and the message may have been written; retry with the same mid"
            }
        };
        for answer in answers {
            answer.fail(outcome, why);
        }
    }

    fn apply(&mut self, entry: &Entry, context: AppendContext) -> Appended {
        self.head += 1;
        self.sink.apply(self.head, entry, context)
    }

    /// Applies the entries that an append of unknown outcome has left on disk. This must happen
    /// before anything else is written.
    fn resync(&mut self) -> rusqlite::Result<()> {
        if !self.must_resync {
            return Ok(());
        }
        let (sink, head) = (&self.sink, &mut self.head);
        self.disk.resync(*head, &mut |seq, entry| {
            // The sender got the outcome `unknown` already, so nobody needs this one.
            let _ = sink.apply(seq, &entry, AppendContext::default());
            *head = seq;
        })?;
        self.must_resync = false;
        Ok(())
    }

    /// Trims and checkpoints. Returns `true` if there is more to do at once.
    fn tidy(&mut self) -> bool {
        if self.untidy_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        match self.resync().and_then(|()| self.disk.tidy()) {
            Ok(more) => {
                self.untidy_until = None;
                more
            }
            Err(error) => {
                // If this keeps failing, appends fail too, and their failure is logged as a
                // warning.
                tracing::debug!(%error, "the log cannot be trimmed; trying again");
                self.untidy_until = Some(Instant::now() + PAUSE);
                false
            }
        }
    }

    fn in_trouble(&mut self, error: &rusqlite::Error) {
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert_with(|| {
            tracing::warn!(%error, "the log cannot be written; messages are refused until it can");
            Trouble { since: now, latest: now, better: false }
        });
        (trouble.latest, trouble.better) = (now, false);
    }

    fn out_of_trouble(&mut self) {
        if let Some(Trouble { since, .. }) =
            self.trouble.take_if(|trouble| trouble.better && trouble.latest.elapsed() >= CALM)
        {
            let seconds = since.elapsed().as_secs();
            tracing::info!(seconds, "the log can be written again");
        }
    }
}

#[cfg(test)]
mod tests;
