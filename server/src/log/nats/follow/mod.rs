//! Following the stream: every entry in order, applied once.

mod recognise;

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
use super::waiting::Shared;
use crate::entry::{AppendContext, AppendId, EntryKind};
use crate::error::Error;
use crate::log::Replica;
use crate::protocol::{Outcome, Refusal};

/// The most entries that are on their way here, and their bytes.
const BATCH: usize = 2_000;
const BATCH_BYTES: usize = 16 * 1024 * 1024;
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
/// If nothing comes for so long, though there is more, the way is lost too.
const STALLED: Duration = Duration::from_secs(2);
/// What came into the stream so much later than it was accepted, in milliseconds, is passed over: a retry
/// of it must find it among the mids, which are remembered for twice as long.
const LATE: u64 = 5 * 60 * 1_000;
/// Between words about a way that is not found.
const TOLD: Duration = Duration::from_secs(30);

/// Applies what the stream brings.
pub(super) struct Follower {
    pub(super) context: Context,
    pub(super) connections: Connections,
    pub(super) cluster: NatsConfig,
    pub(super) epoch: String,
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Arc<dyn Replica>,
    /// The last entry applied, and which append it was as far as that is known.
    pub(super) head: u64,
    pub(super) last: Option<AppendId>,
    /// Since when NATS shows a stream from which entries were taken back.
    pub(super) doubt: Option<Instant>,
    /// When it was told last that there is no way to the stream.
    pub(super) told: Option<Instant>,
}

enum FollowFailure {
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
            match failure {
                FollowFailure::Connected => {
                    // Another node may show another state.
                    self.doubt = None;
                    self.shared.progress.is_behind();
                    continue;
                }
                FollowFailure::Final(error) => return Err(error),
                FollowFailure::Passing(error) => {
                    self.shared.progress.is_stuck();
                    self.tell(&error);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Not at every attempt.
    fn tell(&mut self, error: &str) {
        if self.told.is_none_or(|told| told.elapsed() > TOLD) {
            self.told = Some(Instant::now());
            tracing::warn!(error, "the way to the stream is lost; looking for another");
        }
    }

    async fn follow(&mut self) -> Result<Infallible, FollowFailure> {
        self.connections.mark_unchanged();
        let stream = self.find().await?;
        // An empty stream's first seq is the one that comes next.
        self.lose_before(stream.cached_info().state.first_sequence);
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.head + 1 },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let passing = |error: &dyn Display| FollowFailure::Passing(error.to_string());
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
        let mut look = tokio::time::interval(STALLED);
        let mut seen = None;
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                // What was asked for over the connection before will not come.
                Ok(()) = self.connections.changed() => return Err(FollowFailure::Connected),
                _ = look.tick() => {
                    if seen.replace(self.head) == Some(self.head) && self.head < self.shared.known() {
                        return Err(FollowFailure::Passing("there is more, but nothing comes".into()));
                    }
                    if self.shared.peers.other_epoch() {
                        // Which of both is the stream's is to be seen there.
                        self.find().await?;
                    }
                    continue;
                }
            };
            match next {
                Some(Ok(message)) => {
                    delivered += 1;
                    self.take(&message, delivered).await?;
                }
                Some(Err(error)) => return Err(FollowFailure::Passing(error.to_string())),
                None => return Err(FollowFailure::Passing("it has ended".into())),
            }
        }
    }

    /// `first` is the oldest entry that there still is.
    fn lose_before(&mut self, first: u64) {
        if first <= self.head + 1 {
            return;
        }
        tracing::warn!(
            first = self.head + 1,
            last = first - 1,
            "entries were trimmed before this server had read them; its clients come anew"
        );
        self.sink.reset_to(first - 1);
        (self.head, self.last) = (first - 1, None);
    }

    /// Applies an entry that came as the `delivered`th of this way.
    async fn take(&mut self, message: &Message, delivered: u64) -> Result<(), FollowFailure> {
        let info = message.info().map_err(|error| FollowFailure::Passing(error.to_string()))?;
        let (seq, pending) = (info.stream_sequence, info.pending);
        // Deliveries are numbered without gaps, so one that is missing got lost on its way, but a
        // gap between entries whose deliveries have none was trimmed.
        if info.consumer_sequence != delivered {
            return Err(FollowFailure::Passing("a delivery was lost".into()));
        }
        // After a way was lost, the next one may begin a little earlier.
        if seq <= self.head {
            return Ok(());
        }
        self.lose_before(seq);
        let published = info.published.unix_timestamp_nanos() / 1_000_000;
        // Whoever appends is refused meanwhile; what others have appended must wait.
        while self.sink.admit().is_err() {
            tokio::time::sleep(BEHIND).await;
        }
        let mut last = None;
        match entry::decode_of(&message.subject, &message.payload) {
            Ok(mut entry) => {
                last = entry.append;
                // The stream's clock and not the appending server's, which may be wrong and would make
                // everything look too old everywhere.
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
                // No reply to these tells how many there were.
                let counts = !matches!(entry.kind, EntryKind::Read(..));
                let answer = match (answer, &appended) {
                    (Some(answer), Ok(applied)) if !counts => {
                        let _ = answer.send(Ok(*applied));
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
                    "what no server has written stands in the stream; passed over"
                );
                self.sink.skip(seq);
            }
        }
        (self.head, self.last) = (seq, last);
        self.note(pending);
        Ok(())
    }

    /// Notes how much more there is than has come: as the consumer says, whose node may lag, and as
    /// others do.
    fn note(&self, pending: u64) {
        let known = self.shared.known().saturating_sub(self.head);
        match pending.max(known) <= BATCH as u64 {
            true => self.shared.progress.is_near(),
            false => self.shared.progress.is_behind(),
        }
    }

    /// Passes over an entry that was `late` milliseconds on its way: it had been told that nobody knows
    /// what became of it, and was sent again. All servers see the same times, and so do the same.
    fn discard(&self, seq: u64, late: u64) -> Refusal {
        let late = Duration::from_millis(late).as_secs();
        tracing::warn!(seq, "an entry came {late} s late and is passed over; is a clock wrong?");
        self.sink.skip(seq);
        let why = "this server's clock is minutes behind that of NATS, or the message was on its way for \
                   so long; it was not accepted";
        Refusal::unavailable(Outcome::Refused, why)
    }

    fn refuse(&self, reason: String) -> FollowFailure {
        FollowFailure::Final(self.cluster.error(reason))
    }
}

/// What NATS is asked, within a time.
async fn in_time<T>(asking: impl Future<Output = T>) -> Result<T, FollowFailure> {
    let answer = tokio::time::timeout(ANSWER, asking).await;
    answer.map_err(|_| FollowFailure::Passing(format!("NATS does not answer for {ANSWER:?}")))
}
