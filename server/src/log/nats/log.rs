//! The shared log as the rest of the server sees it.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State as Connection;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::runtime::Runtime;
use super::waiting::{PendingAppend, Shared};
use super::{progress, reads};
use crate::entry::{AppendContext, Entry};
use crate::error::Error;
use crate::log::{Appending, Cluster, Counts, Log, Queued, Replica};
use crate::protocol::{Outcome, Refusal};

/// How long the last report to the other servers may take.
const LAST_REPORT: Duration = Duration::from_millis(500);
/// How often the server logs its progress while it reads a long stream.
const PROGRESS: Duration = Duration::from_secs(2);

/// The log in NATS. When it is dropped, it sends a last report to the other servers and ends the
/// thread. The waiting appends get the outcome `unknown`.
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
    pub(super) last_report: Mutex<std::sync::mpsc::Receiver<()>>,
    #[expect(dead_code, reason = "the tasks end with it")]
    pub(super) runtime: Runtime,
}

impl NatsLog {
    /// Completes when the log has ended, and returns the reason.
    pub(crate) fn ended(&self) -> impl Future<Output = Error> + Send + use<> {
        let (ended, why) = (self.ended.clone(), Arc::clone(&self.why));
        async move {
            ended.cancelled().await;
            why.lock().take().unwrap_or(Error::Defect("the log ended"))
        }
    }

    /// Completes when all entries up to `head` were applied. Logs the progress meanwhile.
    pub(super) async fn has_read(&self, floor: u64, head: u64) {
        let (all, begun) = (head - floor, Instant::now());
        let mut reading = pin!(async {
            Arc::clone(&self.sink).applied(head).await;
            // Even an empty stream must be followed before this server takes clients.
            self.shared.progress.caught_up().await;
        });
        while timeout(PROGRESS, &mut reading).await.is_err() {
            tracing::info!("read {} of {all} entries", self.sink.head().saturating_sub(floor));
        }
        tracing::info!(entries = all, ms = begun.elapsed().as_millis(), "the log was read");
    }
}

impl Log for NatsLog {
    fn append(&self, entry: Entry, context: AppendContext) -> Appending {
        self.take(entry, context).unwrap_or_else(|refusal| self.shared.counts.refuse(refusal))
    }

    fn name(&self) -> &'static str {
        "nats"
    }

    fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    fn answered(&self) -> BoxFuture<'_, ()> {
        self.shared.open.answered()
    }

    fn queued(&self) -> Option<Queued> {
        Some(self.shared.waiting.lock().queued())
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
        let bytes = entry.size();
        let mut all = self.shared.waiting.lock();
        let number = all.number + 1;
        // The entry is queued while the lock is held, so that entries leave in the order of their
        // numbers.
        if !all.queued().has_room(bytes) || self.queue.try_send((number, entry)).is_err() {
            return refused("NATS is behind; retry in a moment");
        }
        let (answer, outcome) = self.shared.open.begin();
        let received = context.received.unwrap_or_else(Instant::now);
        let waiting =
            PendingAppend { answer, origin: context.origin, received, bytes, is_sent: false };
        all.number = number;
        all.bytes += bytes;
        all.by_number.insert(number, waiting);
        Ok(Appending::Waiting(outcome))
    }
}

impl Drop for NatsLog {
    fn drop(&mut self) {
        self.stop.cancel();
        // After the last report, the other servers do not wait for this server's counts.
        let _ = self.last_report.lock().recv_timeout(LAST_REPORT);
    }
}
