//! Appending: entries leave in the order in which they were taken, many under way at once.

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

/// The most entries under way, so that one that is lost is noticed before very many follow it.
pub(super) const UNDER_WAY: usize = 4_096;
/// How often it is looked for appends whose entry does not come.
const LOOK: Duration = Duration::from_secs(1);

/// Sends what `queue` brings until `stop`.
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
                // What is handed to a connection that is lost would leave whenever it is back.
                if client.connection_state() != Connection::Connected {
                    shared.fail(number, Outcome::Refused);
                    continue;
                }
                if !shared.leaves(number) {
                    continue;
                }
                let id = AppendId { writer: shared.writer, number };
                let subject = format!("{prefix}.entry.{}", entry::token(&entry.tag));
                let message = PublishMessage::build().payload(entry::encode(&entry, id));
                let sent = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    // Ends in time, whatever NATS does.
                    sent = context.send_publish(subject, message) => sent,
                };
                match sent {
                    Ok(ack) => under_way.push(async move {
                        (number, ack.await.map(|ack| ack.sequence))
                    }),
                    // It never left.
                    Err(_) => shared.fail(number, Outcome::Refused),
                }
            }
        }
    }
}

/// Answers those whose entry does not come back, until `stop`. Not a part of the above, which waits
/// while NATS takes nothing.
pub(super) async fn give_up(shared: Arc<Shared>, stop: CancellationToken) {
    let mut look = interval(LOOK);
    while stop.run_until_cancelled(look.tick()).await.is_some() {
        shared.give_up();
    }
}

/// What is known of an entry that NATS has not acknowledged.
fn outcome(error: &PublishError) -> Outcome {
    match error.kind() {
        // Nobody took it, or it was answered with an error.
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
