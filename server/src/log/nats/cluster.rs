//! Implements `Cluster` for the log in NATS: catching up, read marks, and the state of the other
//! servers.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as Connection;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{NatsLog, reads};
use crate::id::{Address, Tag};
use crate::log::Cluster;
use crate::protocol::{Mark, Outcome, Refusal};

/// How long a client that comes from another server waits until this server has caught up.
const CATCH_UP: Duration = Duration::from_secs(2);

impl Cluster for NatsLog {
    fn catch_up(&self, seq: u64) -> Option<BoxFuture<'static, ()>> {
        if seq <= self.sink.head() {
            return None;
        }
        let applied = Arc::clone(&self.sink).applied(seq);
        Some(timeout(CATCH_UP, applied).map(drop).boxed())
    }

    fn admit(&self, seq: u64) -> Result<(), Refusal> {
        let head = self.sink.head();
        // If `seq` is above the last entry that any server knows, it belongs to no entry, and there
        // is nothing to wait for.
        if seq <= head || (self.shared.known() <= head && self.not_ready().is_none()) {
            return Ok(());
        }
        let why = "this server has not yet read all that you received from another server; retry, \
                   or use another server";
        Err(Refusal::unavailable(Outcome::Refused, why))
    }

    fn tell_read(&self, tag: &Tag, address: Address, mark: &Mark) {
        let notice = reads::encode(self.shared.writer, self.sink.head(), tag, address, mark);
        // If the queue is full, the mark is lost.
        let _ = self.reads.try_send(notice);
    }

    fn peers(&self) -> usize {
        self.shared.peers.alive()
    }

    fn not_ready(&self) -> Option<&'static str> {
        if self.client.connection_state() != Connection::Connected {
            return Some("NATS is not reachable");
        }
        self.shared.progress.lags()
    }
}
