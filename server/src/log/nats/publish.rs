//! Sends entries to the stream in order, without waiting for each acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as Connection;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::entry;
use super::waiting::Shared;
use crate::entry::{AppendId, Entry};
use crate::protocol::Outcome;

/// How many entries may wait for their acknowledgement. The limit also bounds how many entries can
/// follow a lost one.
pub(super) const UNDER_WAY: usize = 4_096;
/// How often the log looks for appends that have timed out.
const TIMEOUT_CHECK: Duration = Duration::from_secs(1);

/// Sends the entries in `queue` until `stop`.
pub(super) async fn run(
    context: Context,
    prefix: String,
    shared: Arc<Shared>,
    mut queue: mpsc::Receiver<(u64, Entry)>,
    stop: CancellationToken,
) {
    let client = context.client();
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((number, sent)) = under_way.next(), if !under_way.is_empty() => match sent {
                Ok(seq) => shared.progress.acknowledge(seq),
                Err(error) => shared.fail(number, outcome(&error)),
            },
            next = queue.recv(), if under_way.len() < UNDER_WAY => {
                let Some((number, entry)) = next else { return };
                // While the connection is lost, the NATS client would keep the entry and send it
                // later, so the append is refused instead.
                if client.connection_state() != Connection::Connected {
                    shared.fail(number, Outcome::Refused);
                    continue;
                }
                if !shared.mark_sent(number) {
                    continue;
                }
                let id = AppendId { writer: shared.writer, number };
                let subject = format!("{prefix}.entry.{}", entry::token(&entry.tag));
                let message = PublishMessage::build().payload(entry::encode(&entry, id));
                let sent = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    // The context has a time-out, so this wait ends.
                    sent = context.send_publish(subject, message) => sent,
                };
                match sent {
                    Ok(ack) => under_way.push(async move {
                        (number, ack.await.map(|ack| ack.sequence))
                    }),
                    // The entry was not sent.
                    Err(_) => shared.fail(number, Outcome::Refused),
                }
            }
        }
    }
}

/// Answers appends that have timed out, until `stop`. This is a task of its own because [`run`]
/// waits while NATS accepts nothing.
pub(super) async fn expire(shared: Arc<Shared>, stop: CancellationToken) {
    let mut check = interval(TIMEOUT_CHECK);
    while stop.run_until_cancelled(check.tick()).await.is_some() {
        shared.expire();
    }
}

/// The outcome of an append that NATS has not acknowledged.
fn outcome(error: &PublishError) -> Outcome {
    match error.kind() {
        // With these errors NATS has answered that it did not store the entry.
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::MaxPayloadExceeded
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence => Outcome::Refused,
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::Other => Outcome::Unknown,
    }
}
