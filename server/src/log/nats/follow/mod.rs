//! Follows the stream and applies every entry once, in order.

mod identity;

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{Context, Message};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::NatsConfig;
use super::connect::Connections;
use super::entry::{self, BadEntry};
use super::progress;
use super::waiting::Shared;
use crate::entry::{AppendContext, AppendId, EntryKind};
use crate::error::Error;
use crate::log::Replica;
use crate::protocol::{Outcome, Refusal};

/// How many entries NATS may send ahead, and how many bytes.
const BATCH: usize = 2_000;
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How often NATS sends a heartbeat when it has no new entry. After two intervals without a
/// heartbeat the subscription counts as lost, for example because its node has died.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The lifetime of one request for entries.
const STANDING: Duration = Duration::from_secs(30);
/// NATS deletes the consumer of a server that has requested no entries for this time.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// The pause before the next attempt to subscribe.
const PAUSE: Duration = Duration::from_millis(250);
/// The time-out of a request to NATS.
const ANSWER: Duration = Duration::from_secs(5);
/// If no entry comes for this time although the stream has more, the subscription counts as lost.
const STALLED: Duration = Duration::from_secs(2);
/// If an entry reached the stream this many milliseconds after it was accepted, it is skipped. A
/// sender's retry must find the `mid` of the first copy, which is remembered for twice as long.
const LATE: u64 = 5 * 60 * 1_000;
/// How often a lost subscription is logged.
const WARN_INTERVAL: Duration = Duration::from_secs(30);

/// Applies the entries of the stream to the sink.
pub(super) struct Follower {
    pub(super) context: Context,
    pub(super) connections: Connections,
    pub(super) cluster: NatsConfig,
    pub(super) epoch: String,
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Arc<dyn Replica>,
    /// The number of the last entry applied. `last` is its append, if that is known.
    pub(super) head: u64,
    pub(super) last: Option<AppendId>,
    /// The time since which the stream that NATS shows has lacked entries that this server has
    /// read.
    pub(super) suspect_since: Option<Instant>,
    /// The time at which a lost subscription was last logged.
    pub(super) warned_at: Option<Instant>,
}

enum FollowFailure {
    /// The client has a new connection.
    Connected,
    /// A further attempt may succeed.
    Passing(String),
    /// A further attempt would do harm.
    Final(Error),
}

impl Follower {
    /// Follows the stream until `stop`.
    ///
    /// # Errors
    /// [`Error::Cluster`] if the stream was replaced by another one, or holds an entry of a newer
    /// server.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let failure = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Err(failure) = self.follow() => failure,
            };
            match failure {
                FollowFailure::Connected => {
                    // Another node may answer now, with another state of the stream.
                    self.suspect_since = None;
                    self.shared.progress.is_behind(progress::READING);
                    continue;
                }
                FollowFailure::Final(error) => return Err(error),
                FollowFailure::Passing(error) => {
                    self.shared.progress.is_behind(progress::STUCK);
                    self.warn(&error);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Logs a failure, but at most once per [`WARN_INTERVAL`].
    fn warn(&mut self, error: &str) {
        if self.warned_at.is_none_or(|at| at.elapsed() > WARN_INTERVAL) {
            self.warned_at = Some(Instant::now());
            tracing::warn!(error, "the stream cannot be read; trying again");
        }
    }

    async fn follow(&mut self) -> Result<Infallible, FollowFailure> {
        self.connections.mark_unchanged();
        let stream = self.find().await?;
        // The first seq of an empty stream is that of its next entry.
        self.reset_before(stream.cached_info().state.first_sequence);
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.head + 1 },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = in_time(stream.create_consumer(config)).await?;
        let consumer = consumer.map_err(|error| passing(&error))?;
        self.note(consumer.cached_info().num_pending);
        let pulling = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .max_bytes_per_batch(BATCH_BYTES)
            .heartbeat(HEARTBEAT)
            .expires(STANDING)
            .messages();
        let mut messages = in_time(pulling).await?.map_err(|error| passing(&error))?;
        let mut delivered = 0;
        let mut check = tokio::time::interval(STALLED);
        let mut seen = None;
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                // Entries that were requested over the previous connection will not come.
                Ok(()) = self.connections.changed() => return Err(FollowFailure::Connected),
                _ = check.tick() => {
                    if seen.replace(self.head) == Some(self.head) && self.head < self.shared.known() {
                        return Err(passing(&"the stream has more entries, but NATS delivers none"));
                    }
                    if self.shared.peers.other_epoch() {
                        // `find` compares the epoch of the stream with the epoch that this server
                        // follows.
                        self.find().await?;
                    }
                    continue;
                }
            };
            let message =
                next.ok_or_else(|| passing(&"the subscription to the stream has ended"))?;
            let message = message.map_err(|error| passing(&error))?;
            delivered += 1;
            self.take(&message, delivered).await?;
        }
    }

    /// Resets the sink if entries before `first`, the oldest entry of the stream, were not applied.
    fn reset_before(&mut self, first: u64) {
        if first <= self.head + 1 {
            return;
        }
        tracing::warn!(
            first = self.head + 1,
            last = first - 1,
            "entries were trimmed before this server had read them; its clients register again"
        );
        self.sink.reset_to(first - 1);
        (self.head, self.last) = (first - 1, None);
    }

    /// Applies an entry. `delivered` is its number within this subscription.
    async fn take(&mut self, message: &Message, delivered: u64) -> Result<(), FollowFailure> {
        let info = message.info().map_err(|error| passing(&error))?;
        let (seq, pending) = (info.stream_sequence, info.pending);
        // NATS numbers its deliveries without gaps, so a missing number means a lost delivery. A
        // gap between the seqs of two consecutive deliveries was trimmed.
        if info.consumer_sequence != delivered {
            return Err(passing(&"an entry was lost on its way from NATS"));
        }
        // A new subscription may begin with entries that were applied already.
        if seq <= self.head {
            return Ok(());
        }
        self.reset_before(seq);
        let published = info.published.unix_timestamp_nanos() / 1_000_000;
        // While the shards are behind, this server refuses its own appends, and the entries of
        // other servers wait here.
        while self.sink.admit().is_err() {
            Arc::clone(&self.sink).admits().await;
        }
        let mut last = None;
        match entry::decode_of(&message.subject, &message.payload) {
            Ok(mut entry) => {
                last = entry.append;
                // The entry gets the time of NATS's clock. If the clock of the appending server
                // were used and wrong, all messages could look too old at every server.
                let published = u64::try_from(published).unwrap_or(0);
                let late = published.saturating_sub(entry.at);
                entry.set_time(published);
                let waiting = self.shared.take(entry.append);
                let context = waiting.as_ref().map_or(AppendContext::default(), |waiting| {
                    AppendContext { origin: waiting.origin, received: Some(waiting.received) }
                });
                let appended = match late > LATE {
                    true => Err(self.discard(seq, late)),
                    false => self.sink.apply(seq, &entry, context),
                };
                let answer = waiting.map(|waiting| self.shared.done(waiting));
                // The reply to a read mark contains no count of clients, so it need not wait for
                // other servers.
                let counts = !matches!(entry.kind, EntryKind::Read(..));
                let answer = match (answer, &appended) {
                    (Some(answer), Ok(applied)) if !counts => {
                        answer.send(Ok(*applied));
                        None
                    }
                    (answer, _) => answer,
                };
                self.shared.peers.applied(seq, appended, answer);
            }
            Err(BadEntry::Newer) => {
                let reason = format!("entry {seq} was written by a newer server; update this one");
                return Err(self.refuse(reason));
            }
            Err(BadEntry::Foreign) => {
                tracing::error!(
                    seq,
                    "a message in the stream was not written by a Tocsin server; skipped"
                );
                self.sink.skip(seq);
            }
        }
        (self.head, self.last) = (seq, last);
        self.note(pending);
        Ok(())
    }

    /// Notes whether this server is behind. Both the consumer (whose node may lag) and the other
    /// servers report how many entries this server lacks; the greater number counts.
    fn note(&self, pending: u64) {
        let known = self.shared.known().saturating_sub(self.head);
        match pending.max(known) <= BATCH as u64 {
            true => self.shared.progress.is_near(),
            false => self.shared.progress.is_behind(progress::READING),
        }
    }

    /// Skips an entry that reached the stream `late` milliseconds after its acceptance. Its sender
    /// may have got the outcome `unknown` and sent it again. All servers see the same times and
    /// skip the same entries.
    fn discard(&self, seq: u64, late: u64) -> Refusal {
        let late = Duration::from_millis(late).as_secs();
        tracing::warn!(
            seq,
            "an entry came {late} s late and is skipped; check the clocks of the servers"
        );
        self.sink.skip(seq);
        let why = "the message was not accepted: it took minutes to reach NATS, or this server's \
                   clock is minutes behind that of NATS; send it again";
        Refusal::unavailable(Outcome::Refused, why)
    }

    fn refuse(&self, reason: String) -> FollowFailure {
        FollowFailure::Final(self.cluster.error(reason))
    }
}

fn passing(error: &dyn Display) -> FollowFailure {
    FollowFailure::Passing(error.to_string())
}

/// Limits the time of a request to NATS.
async fn in_time<T>(asking: impl Future<Output = T>) -> Result<T, FollowFailure> {
    let answer = tokio::time::timeout(ANSWER, asking).await;
    answer.map_err(|_| FollowFailure::Passing(format!("NATS does not answer for {ANSWER:?}")))
}
