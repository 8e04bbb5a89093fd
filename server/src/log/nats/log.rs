//! The log as the rest of the server sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State as Connection;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::runtime::Runtime;
use super::waiting::{PendingAppend, Shared};
use super::{progress, reads};
use crate::entry::{AppendContext, Entry};
use crate::error::Error;
use crate::limits;
use crate::log::{Appending, Cluster, Counts, Log, Queued, Replica};
use crate::protocol::{Outcome, Refusal};

/// How long the last words take at most, when the log ends.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Between looks at how far the reading of a long stream is.
const PROGRESS: Duration = Duration::from_secs(2);

/// The log in NATS. Dropping it takes leave of the other servers and ends the thread; what waits
/// learns that there is no answer.
#[derive(Debug)]
pub(crate) struct NatsLog {
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Arc<dyn Replica>,
    pub(super) client: Client,
    pub(super) queue: mpsc::Sender<(u64, Entry)>,
    pub(super) reads: mpsc::Sender<reads::ReadNotice>,
    pub(super) stop: CancellationToken,
    pub(super) ended: CancellationToken,
    pub(super) why: Arc<Mutex<Option<Error>>>,
    pub(super) last_words: Mutex<std::sync::mpsc::Receiver<()>>,
    #[expect(dead_code, reason = "the tasks end with it")]
    pub(super) runtime: Runtime,
}

impl NatsLog {
    /// Ends when the log has, and answers why.
    pub(crate) fn ended(&self) -> impl Future<Output = Error> + Send + use<> {
        let (ended, why) = (self.ended.clone(), Arc::clone(&self.why));
        async move {
            ended.cancelled().await;
            why.lock().take().unwrap_or(Error::Defect("the log ended"))
        }
    }

    /// Ends when everything up to `head` was applied, and says how far it is meanwhile.
    pub(super) async fn has_read(&self, floor: u64, head: u64) {
        let (all, begun) = (head - floor, Instant::now());
        let mut told = begun;
        // Also of an empty stream it is to be known that it can be followed.
        while self.sink.head() < head || !self.shared.progress.has_caught_up() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                tracing::info!("read {} of {all} entries", self.sink.head().saturating_sub(floor));
            }
        }
        tracing::info!(entries = all, ms = begun.elapsed().as_millis(), "the log was read");
    }
}

impl Log for NatsLog {
    fn append(&self, entry: Entry, context: AppendContext) -> Appending {
        self.take(entry, context).unwrap_or_else(|refusal| {
            self.shared.counts.failed(1, Outcome::Refused);
            Appending::done(Err(refusal))
        })
    }

    fn name(&self) -> &'static str {
        "nats"
    }

    fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    fn is_idle(&self) -> bool {
        // In this order: what has come back waits for the others' counts next.
        self.shared.waiting.lock().by_number.is_empty() && self.shared.peers.is_idle()
    }

    fn queued(&self) -> Option<Queued> {
        let waiting = self.shared.waiting.lock();
        Some(Queued { entries: waiting.by_number.len(), bytes: waiting.bytes })
    }

    fn cluster(&self) -> Option<&dyn Cluster> {
        Some(self)
    }
}

impl NatsLog {
    fn take(&self, entry: Entry, context: AppendContext) -> Result<Appending, Refusal> {
        let refused = |why| Err(Refusal::unavailable(Outcome::Refused, why));
        self.sink.admit()?;
        if self.client.connection_state() != Connection::Connected {
            return refused("NATS, which orders messages, is not reachable; retry in a moment");
        }
        if self.shared.progress.lags() == Some(progress::STUCK) {
            return refused(
                "the stream in NATS, which orders messages, cannot be read; retry in a moment",
            );
        }
        let (answer, outcome) = oneshot::channel();
        let bytes = entry.size();
        let received = context.received.unwrap_or_else(Instant::now);
        let waiting =
            PendingAppend { answer, origin: context.origin, received, bytes, has_left: false };
        let mut all = self.shared.waiting.lock();
        let full =
            all.by_number.len() >= limits::LOG_QUEUE || all.bytes + bytes > limits::LOG_QUEUE_BYTES;
        let number = all.number + 1;
        // Under the lock, so that numbers leave in order.
        if full || self.queue.try_send((number, entry)).is_err() {
            return refused("NATS is behind; retry in a moment");
        }
        all.number = number;
        all.bytes += bytes;
        all.by_number.insert(number, waiting);
        Ok(Appending::waiting(outcome))
    }
}

impl Drop for NatsLog {
    fn drop(&mut self) {
        self.stop.cancel();
        // So that nobody waits for this server's counts.
        let _ = self.last_words.lock().recv_timeout(LAST_WORDS);
    }
}
