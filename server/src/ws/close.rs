//! Flushes and closes the connection of a WebSocket.

use std::future::poll_fn;
use std::time::Duration;

use shared::deadline::within;
use shared::linger;

use crate::conn::outbox::{Demand, Outbox};

/// The time-out for a client to read the rest of the outbox and the close frame.
const LAST_BYTES: Duration = Duration::from_secs(10);

/// Writes the rest of the outbox, then waits a short time for the peer to close its side.
pub(super) async fn flush_and_close(outbox: &Outbox) {
    let flushed = within("close frame", LAST_BYTES, async {
        while outbox.has_waiting() {
            let _ = poll_fn(|context| outbox.wire.poll_write_ready(context)).await;
            outbox.flush();
        }
    });
    if flushed.await.is_ok() && outbox.demand() != Demand::Broken {
        linger::linger(&outbox.wire).await;
    }
}
