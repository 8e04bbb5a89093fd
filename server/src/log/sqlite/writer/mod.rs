//! The thread that writes: batches of what waits, each one transaction and one sync; then the hub
//! applies, and the senders are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::{Queue, QueuedAppend};
use super::store::{Disk, Fate, WriteFailure};
use crate::entry::{AppendContext, Appended, Entry};
use crate::log::{Counts, Sink};
use crate::protocol::{Outcome, Refusal};

/// How often an idle writer looks after its files.
const IDLE: Duration = Duration::from_secs(1);
/// How long it leaves them alone after that has failed.
const PAUSE: Duration = Duration::from_secs(5);
/// Trouble is over after so long without a failure: on an almost full disk small messages find room
/// where large ones do not, and that is no news each time.
const CALM: Duration = Duration::from_secs(1);

pub(super) struct Writer<D> {
    disk: D,
    queue: Arc<Queue>,
    sink: Arc<dyn Sink>,
    pub(super) counts: Arc<Counts>,
    /// The last entry that the sink has applied.
    head: u64,
    /// Whether there may be entries beyond `head` on disk.
    doubt: bool,
    trouble: Option<Trouble>,
    /// When the files may be looked after again, if that has failed.
    untidy_until: Option<Instant>,
}

/// A time in which appends fail.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    latest: Instant,
    /// Whether an append has succeeded since the latest failure.
    better: bool,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(disk: D, queue: Arc<Queue>, sink: Arc<dyn Sink>, head: u64) -> Self {
        let (doubt, trouble, untidy_until) = (false, None, None);
        let counts = Arc::default();
        Self { disk, queue, sink, counts, head, doubt, trouble, untidy_until }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut batch = Vec::new();
        let mut more = false;
        while self.queue.take(&mut batch, if more { Duration::ZERO } else { IDLE }) {
            if !batch.is_empty() {
                self.write(&mut batch);
                self.queue.finished();
            }
            more = self.tidy();
            self.out_of_trouble();
        }
        if let Err(error) = self.disk.finish() {
            // Nothing is lost by it: the next start reads both files.
            tracing::debug!(%error, "the log was not left in one file");
        }
    }

    /// Empties `batch`.
    fn write(&mut self, batch: &mut Vec<QueuedAppend>) {
        if let Err(error) = self.resync() {
            self.in_trouble(&error);
            self.counts.failed(batch.len(), Outcome::Refused);
            return refuse(batch.drain(..).map(|waiting| waiting.answer));
        }
        let (entries, senders): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|append| (append.entry, (append.context, append.answer))).unzip();
        let begun = Instant::now();
        let appended = self.disk.append(self.head + 1, &entries);
        self.counts.commits.lock().note(begun.elapsed());
        let fate = match appended {
            Ok(()) => Fate::Present,
            Err(WriteFailure { error, fate }) => {
                self.in_trouble(&error);
                fate
            }
        };
        match fate {
            Fate::Present => {
                self.counts.appended(entries.len());
                if let Some(trouble) = &mut self.trouble {
                    trouble.better = true;
                }
                for (entry, (context, answer)) in entries.iter().zip(senders) {
                    // The sender may have left; the entry counts all the same.
                    let _ = answer.send(self.apply(entry, context));
                }
            }
            Fate::Absent => {
                self.counts.failed(entries.len(), Outcome::Refused);
                refuse(senders.into_iter().map(|(_, answer)| answer));
            }
            Fate::Unknown => {
                self.doubt = true;
                self.counts.failed(entries.len(), Outcome::Unknown);
                for (_, answer) in senders {
                    let _ = answer.send(Err(Refusal::unavailable(
                        Outcome::Unknown,
                        "the disk failed, and the message may have been written; retry with the \
                         same mid",
                    )));
                }
            }
        }
    }

    fn apply(&mut self, entry: &Entry, context: AppendContext) -> Appended {
        self.head += 1;
        self.sink.apply(self.head, entry, context)
    }

    /// Before anything is written after an append of unknown fate: applies what is there of it.
    fn resync(&mut self) -> rusqlite::Result<()> {
        if !self.doubt {
            return Ok(());
        }
        let (sink, head) = (&self.sink, &mut self.head);
        self.disk.resync(*head, &mut |seq, entry| {
            // Its sender was told that this may happen.
            let _ = sink.apply(seq, &entry, AppendContext::default());
            *head = seq;
        })?;
        self.doubt = false;
        Ok(())
    }

    /// Looks after the files. Whether there is more to do at once.
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
                // What fails for long makes appends fail too, and then more is said.
                tracing::debug!(%error, "the log's files cannot be looked after; trying again");
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

fn refuse(answers: impl IntoIterator<Item = oneshot::Sender<Appended>>) {
    for answer in answers {
        let _ = answer.send(Err(Refusal::unavailable(
            Outcome::Refused,
            "the disk takes nothing more at present; the server's log says why",
        )));
    }
}

#[cfg(test)]
mod tests;
