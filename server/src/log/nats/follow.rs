//! Following the stream: every entry in order, applied once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{Context, Message};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::connect::Connections;
use super::entry::{self, BadEntry};
use super::waiting::Shared;
use crate::error::Error;
use crate::log::Replica;

/// The most entries that are on their way here.
const BATCH: usize = 2_000;
/// NATS says so often that there is nothing new. After two of these without a word the way is lost,
/// as after the death of the node that served it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long one request for entries stands.
const STANDING: Duration = Duration::from_secs(30);
/// NATS forgets a follower that has not asked for so long.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Between attempts to find a way again.
const PAUSE: Duration = Duration::from_millis(250);
/// Between looks at whether deliveries have caught up.
const BEHIND: Duration = Duration::from_millis(2);
/// How long NATS may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Applies what the stream brings.
pub(super) struct Follower {
    pub(super) context: Context,
    pub(super) connections: Connections,
    pub(super) cluster: Cluster,
    pub(super) epoch: String,
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Arc<dyn Replica>,
    /// The last entry applied.
    pub(super) head: u64,
}

enum Failure {
    /// The connection was another one; there is a new one now.
    Connected,
    /// It may be better soon.
    Passing(String),
    /// Going on would do harm.
    Final(Error),
}

impl Follower {
    /// Follows until `stop`.
    ///
    /// # Errors
    /// [`Error::Cluster`] if the stream is another one by now, or holds what only a newer server
    /// understands.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let failure = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Err(failure) = self.follow() => failure,
            };
            self.shared.caught_up.store(false, Ordering::Relaxed);
            match failure {
                Failure::Connected => continue,
                Failure::Final(error) => return Err(error),
                Failure::Passing(error) => {
                    tracing::debug!(error, "the way to the stream is lost; looking for another");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Failure> {
        let passing = |error: &dyn std::fmt::Display| Failure::Passing(error.to_string());
        self.connections.mark_unchanged();
        let name = self.cluster.stream.clone();
        let stream = tokio::time::timeout(ANSWER, self.context.get_stream(&name)).await;
        let stream = stream.map_err(|error| passing(&error))?.map_err(|error| passing(&error))?;
        let info = stream.cached_info();
        if !super::stream::is_of(&info.config, &self.epoch) || info.state.last_sequence < self.head
        {
            return Err(self.refuse(
                "it is not the stream any more that it was; a restart takes it as it is now".into(),
            ));
        }
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.head + 1 },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = tokio::time::timeout(ANSWER, stream.create_consumer(config)).await;
        let consumer =
            consumer.map_err(|error| passing(&error))?.map_err(|error| passing(&error))?;
        if consumer.cached_info().num_pending == 0 {
            self.shared.caught_up.store(true, Ordering::Relaxed);
        }
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .heartbeat(HEARTBEAT)
            .expires(STANDING)
            .messages()
            .await
            .map_err(|error| passing(&error))?;
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                // What was asked for over the connection before will not come.
                Ok(()) = self.connections.changed() => return Err(Failure::Connected),
            };
            match next {
                Some(Ok(message)) => self.take(&message).await?,
                Some(Err(error)) => return Err(passing(&error)),
                None => return Err(passing(&"it has ended")),
            }
        }
    }

    async fn take(&mut self, message: &Message) -> Result<(), Failure> {
        let info = message.info().map_err(|error| Failure::Passing(error.to_string()))?;
        let (seq, pending) = (info.stream_sequence, info.pending);
        // After a way was lost, the next one may begin a little earlier.
        if seq <= self.head {
            return Ok(());
        }
        if seq > self.head + 1 {
            tracing::warn!(
                first = self.head + 1,
                last = seq - 1,
                "entries were trimmed before this server had read them; its clients come anew"
            );
            self.sink.lose(seq - 1);
        }
        // Whoever appends is refused meanwhile; what others have appended must wait.
        while self.sink.admit().is_err() {
            tokio::time::sleep(BEHIND).await;
        }
        let token = message.subject.rsplit('.').next().unwrap_or_default();
        match entry::decode(token, &message.payload) {
            Ok(mut entry) => {
                let waiting = self.shared.take(entry.append);
                if let Some(waiting) = &waiting {
                    entry.origin = waiting.origin;
                    entry.received = Some(waiting.received);
                }
                let appended = self.sink.apply(seq, &entry);
                let answer = waiting.map(|waiting| self.shared.done(waiting));
                self.shared.peers.applied(seq, appended, answer);
            }
            Err(BadEntry::Newer) => {
                let reason = format!("entry {seq} was written by a newer server; update this one");
                return Err(self.refuse(reason));
            }
            Err(BadEntry::Foreign) => {
                tracing::error!(
                    seq,
                    "what no server has written stands in the stream; passed over"
                );
                self.sink.skip(seq);
            }
        }
        self.head = seq;
        self.shared.caught_up.store(pending == 0, Ordering::Relaxed);
        Ok(())
    }

    fn refuse(&self, reason: String) -> Failure {
        Failure::Final(Error::Cluster { stream: self.cluster.stream.clone(), reason })
    }
}
