//! The end of a connection, from this side.

use std::future::poll_fn;
use std::time::Duration;

use shared::deadline::within;
use shared::linger;

use crate::conn::outbox::{Demand, Outbox};

/// How long the last bytes for a client that reads slowly may take: the end of a frame that it has
/// begun to read, and the close frame.
const LAST_BYTES: Duration = Duration::from_secs(10);

/// Writes the rest of the outbox, then waits a moment for the peer to close its side.
pub(super) async fn flush_and_close(outbox: &Outbox) {
    let flushed = within("close frame", LAST_BYTES, async {
        while outbox.has_waiting() {
            let _ = poll_fn(|context| outbox.wire().poll_write_ready(context)).await;
            outbox.flush();
        }
    });
    if flushed.await.is_ok() && outbox.demand() != Demand::Broken {
        linger::linger(outbox.wire()).await;
    }
}
