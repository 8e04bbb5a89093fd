//! Whether the stream is still the one that was followed so far.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};

use super::{FollowFailure, Follower, in_time};
use crate::log::nats::{entry, stream};

/// A node that has lagged behind the others may show an old state of the stream for so long.
const DOUBT: Duration = Duration::from_secs(15);

impl Follower {
    /// The stream, as it is now.
    pub(super) async fn find(&mut self) -> Result<Stream, FollowFailure> {
        let name = self.cluster.stream.clone();
        match in_time(self.context.get_stream(&name)).await? {
            Ok(stream) => {
                self.recognise(&stream).await?;
                Ok(stream)
            }
            Err(error) if stream::is_missing(&error) => {
                Err(self.doubt("there is no such stream any more"))
            }
            Err(error) => Err(FollowFailure::Passing(error.to_string())),
        }
    }

    /// Whether this is the stream that was followed so far, and nothing of it was taken back: by
    /// NATS nodes that have lost what they had acknowledged, or by a backup put in its place.
    async fn recognise(&mut self, stream: &Stream) -> Result<(), FollowFailure> {
        let info = stream.cached_info();
        if !stream::has_epoch(&info.config, &self.epoch) {
            return Err(self.refuse("it has a new epoch; a restart takes it as it is now".into()));
        }
        let there = info.state.last_sequence >= self.head && self.has_last(stream).await?;
        if there {
            self.doubt = None;
            return Ok(());
        }
        match self.doubt("entries were taken back: NATS has lost them, or a backup was restored") {
            FollowFailure::Final(_) => Err(self.taken_back().await),
            passing => Err(passing),
        }
    }

    /// What is wrong with the stream, unless it gets better in time.
    fn doubt(&mut self, reason: &str) -> FollowFailure {
        let since = *self.doubt.get_or_insert_with(Instant::now);
        match since.elapsed() < DOUBT {
            true => FollowFailure::Passing(reason.into()),
            false => self.refuse(reason.into()),
        }
    }

    /// The numbers of entries that clients have seen will be given again, or have been. With a new
    /// epoch nobody's cursor is taken for one of those that come; all servers must begin anew then.
    async fn taken_back(&self) -> FollowFailure {
        let renewing = stream::renew(&self.context, &self.cluster.stream, &self.epoch);
        match in_time(renewing).await {
            Ok(Ok(())) => self.refuse(
                "entries were taken back: NATS has lost them, or a backup was restored; it has a new \
                 epoch now, and a restart takes it as it is"
                    .into(),
            ),
            Ok(Err(error)) => FollowFailure::Passing(format!("no new epoch could be given: {error}")),
            Err(passing) => passing,
        }
    }

    /// Whether the last entry applied stands in the stream, as far as can be said.
    async fn has_last(&self, stream: &Stream) -> Result<bool, FollowFailure> {
        let is_kept = stream.cached_info().state.first_sequence <= self.head;
        let Some(last) = self.last.filter(|_| is_kept) else { return Ok(true) };
        match in_time(stream.get_raw_message(self.head)).await? {
            Ok(message) => match entry::decode_of(&message.subject, &message.payload) {
                Ok(entry) if entry.append == Some(last) => Ok(true),
                // No node that lags shows another entry in its place.
                _ => Err(self.taken_back().await),
            },
            // Trimmed in between, or never there: whoever asks again learns which.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(FollowFailure::Passing(error.to_string())),
        }
    }
}
