//! Checks that the stream is still the one that this server has followed so far.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};

use super::{FollowFailure, Follower, in_time, passing};
use crate::log::nats::{entry, stream};

/// How long a NATS node that lags behind the others may show an old state of the stream.
const STALE_NODE: Duration = Duration::from_secs(15);

impl Follower {
    /// Fetches the present state of the stream and checks its identity.
    pub(super) async fn find(&mut self) -> Result<Stream, FollowFailure> {
        let name = self.cluster.stream.clone();
        match in_time(self.context.get_stream(&name)).await? {
            Ok(stream) => {
                self.check_identity(&stream).await?;
                Ok(stream)
            }
            Err(error) if stream::is_missing(&error) => Err(self.suspect(
                "the stream no longer exists in NATS; restore it from a backup, or \
                 restart the servers, which make an empty one",
            )),
            Err(error) => Err(passing(&error)),
        }
    }

    /// Checks that this is the stream that was followed so far, and that it still has its entries.
    /// NATS nodes may have lost acknowledged entries, or somebody may have restored a backup.
    async fn check_identity(&mut self, stream: &Stream) -> Result<(), FollowFailure> {
        let info = stream.cached_info();
        if !stream::has_epoch(&info.config, &self.epoch) {
            let reason = "it has a new epoch; restart this server to continue with it";
            return Err(self.refuse(reason.into()));
        }
        let there = info.state.last_sequence >= self.head && self.has_last(stream).await?;
        if there {
            self.suspect_since = None;
            return Ok(());
        }
        match self.suspect(
            "entries that this server has read are gone from the stream: NATS has lost \
             them, or a backup was restored",
        ) {
            FollowFailure::Final(_) => Err(self.renew_epoch().await),
            passing => Err(passing),
        }
    }

    /// Notes a fault of the stream. The fault is final once it has lasted for [`STALE_NODE`].
    fn suspect(&mut self, reason: &str) -> FollowFailure {
        let since = *self.suspect_since.get_or_insert_with(Instant::now);
        match since.elapsed() < STALE_NODE {
            true => FollowFailure::Passing(reason.into()),
            false => self.refuse(reason.into()),
        }
    }

    /// Gives the stream a new epoch, because it will use seqs again that clients have seen: an old
    /// cursor must not be mistaken for a new one. All servers must restart afterwards.
    async fn renew_epoch(&self) -> FollowFailure {
        let renewing = stream::renew(&self.context, &self.cluster.stream, &self.epoch);
        match in_time(renewing).await {
            Ok(Ok(())) => self.refuse(
                "entries that this server has read are gone from the stream: NATS has lost them, \
                 or a backup was restored; the stream has a new epoch now, so restart the servers \
                 to continue with it"
                    .into(),
            ),
            Ok(Err(error)) => FollowFailure::Passing(format!(
                "the stream could not be given a new epoch: {error}"
            )),
            Err(passing) => passing,
        }
    }

    /// Whether the stream still has the last entry applied. `true` if this cannot be checked.
    async fn has_last(&self, stream: &Stream) -> Result<bool, FollowFailure> {
        let is_kept = stream.cached_info().state.first_sequence <= self.head;
        let Some(last) = self.last.filter(|_| is_kept) else { return Ok(true) };
        match in_time(stream.get_raw_message(self.head)).await? {
            Ok(message) => match entry::decode_of(&message.subject, &message.payload) {
                Ok(entry) if entry.append == Some(last) => Ok(true),
                // Another entry has this number now, so entries were lost. A node that lags would
                // show no entry.
                _ => Err(self.renew_epoch().await),
            },
            // The entry was trimmed in the meantime or is lost. The next attempt shows which of the
            // two.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(passing(&error)),
        }
    }
}
