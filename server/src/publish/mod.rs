//! Checks tags, keys and rate limits, and appends to the log. WebSocket and HTTP both use this
//! module.

pub(crate) mod dispatcher;
mod persons;
mod refusal_log;
pub(crate) mod registrations;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use crate::access::auth::Permit;
use crate::access::policy::Policy;
use crate::access::rate_limit::RateLimiter;
use crate::access::visitor::Visitor;
use crate::clock::now_ms;
use crate::conn::outbox::Backlog;
use crate::counters::Counters;
use crate::entry::{AppendContext, Entry, EntryKind};
use crate::hub::Hub;
use crate::id::{IdKey, Tag};
use crate::log::{Appending, Log};
use crate::protocol::{ErrorCode, Key, Protectable, Publish, Recipient, Refusal, Reply};

/// The state that all WebSockets and HTTP requests share.
#[derive(Debug)]
pub(crate) struct Service {
    pub hub: Arc<Hub>,
    pub log: Box<dyn Log>,
    /// The policy, which a reload replaces.
    pub policy: ArcSwap<Policy>,
    pub rates: RateLimiter,
    pub id_key: IdKey,
    pub counters: Arc<Counters>,
    /// The bytes that wait for the sockets of all connections.
    pub backlog: Arc<Backlog>,
    /// Tracks the HTTP requests in flight: each of them holds a token.
    pub at_work: TaskTracker,
}

impl Service {
    /// Checks that the configuration permits the tag.
    ///
    /// # Errors
    /// `bad_tag` if the configuration declares tags, but not this one.
    pub(crate) fn check_tag(&self, tag: &Tag) -> Result<(), Refusal> {
        match &self.policy.load().declared_tags {
            Some(declared) if !declared.contains(tag) => Err(Refusal::new(
                ErrorCode::BadTag,
                "this server's configuration does not declare the tag; add it there as [tags.NAME]"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that `action` on `tag` needs no key or that one of `keys` is right.
    ///
    /// # Errors
    /// `denied` without the right key; `rate_limited` after too many wrong keys. A request with the
    /// right key is never rate-limited here.
    pub(crate) fn authorise<'a>(
        &self,
        visitor: &mut Visitor,
        tag: &Tag,
        action: Protectable,
        keys: impl IntoIterator<Item = &'a Key>,
    ) -> Result<Permit, Refusal> {
        let policy = self.policy.load();
        policy.auth.check(tag, action, keys).or_else(|denied| {
            let name = action.name();
            if !denied.has_key {
                let detail = format!("{name} needs a key, and none is configured for it on {tag}");
                return Err(Refusal::new(ErrorCode::Denied, detail.into()));
            }
            if !denied.key_given {
                let detail = format!("{name} on {tag} needs its key");
                return Err(Refusal::new(ErrorCode::Denied, detail.into()));
            }
            visitor
                .wrong_key(&self.rates, &policy.limits)
                .map_err(|often| Refusal::rate_limited("too many wrong keys", often.retry_in))?;
            let detail = format!("the key is wrong for {name} on {tag}");
            Err(Refusal::new(ErrorCode::Denied, detail.into()))
        })
    }

    /// Counts a `set` or `unset` against the visitor's rate limit.
    ///
    /// # Errors
    /// `rate_limited` if the visitor exceeds the limit.
    pub(crate) fn count_set(&self, visitor: &mut Visitor) -> Result<(), Refusal> {
        visitor
            .set(&self.rates, &self.policy.load().limits)
            .map_err(|often| Refusal::rate_limited("too many registrations", often.retry_in))
    }

    /// Counts a request other than `set` and `unset` against the visitor's rate limit.
    ///
    /// # Errors
    /// `rate_limited` if the visitor exceeds the limit.
    pub(crate) fn count(&self, visitor: &mut Visitor) -> Result<(), Refusal> {
        visitor
            .send(&self.rates, &self.policy.load().limits)
            .map_err(|often| Refusal::rate_limited("too many requests", often.retry_in))
    }

    /// Checks the key and the tag. Counts the request against the rate limit unless its key is
    /// right.
    fn admit(
        &self,
        visitor: &mut Visitor,
        tag: &Tag,
        action: Protectable,
        key: Option<&Key>,
    ) -> Result<(), Refusal> {
        let permit = self.authorise(visitor, tag, action, key);
        if permit != Ok(Permit::Key) {
            self.count(visitor)?;
        }
        permit?;
        self.check_tag(tag)
    }

    /// Checks a message and appends it to the log.
    ///
    /// `otherwise` returns the key to check if the message contains none: the key of the request's
    /// `Authorization` header, or the key that the connection sent with its `set`.
    ///
    /// # Errors
    /// `bad_tag`, `denied`, `rate_limited`. Errors of the append itself are in the output of the
    /// future.
    pub(crate) fn publish<'a>(
        &self,
        visitor: &mut Visitor,
        publish: Publish,
        otherwise: impl FnOnce(&Publish) -> Option<&'a Key>,
    ) -> Result<Appending, Refusal> {
        let key = publish.key.as_ref().or_else(|| otherwise(&publish));
        self.admit(visitor, &publish.tag, publish.action(), key)?;
        let at = now_ms();
        let ttl = publish.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let kind = match &publish.to {
            Recipient::Everyone => EntryKind::Broadcast(publish.message),
            Recipient::One(id) => {
                EntryKind::Direct(self.id_key.address(&publish.tag, id), publish.message)
            }
        };
        let expires = ttl.map(|ttl| at.saturating_add(ttl));
        let Publish { tag, mid, .. } = publish;
        Ok(self.append(Entry { tag, kind, at, expires, mid, append: None }, None))
    }

    fn append(&self, entry: Entry, origin: Option<u64>) -> Appending {
        self.log.append(entry, AppendContext { origin, received: Some(Instant::now()) })
    }

    fn append_event(&self, tag: Tag, kind: EntryKind, origin: Option<u64>) -> Appending {
        let (at, expires, mid, append) = (now_ms(), None, None, None);
        self.append(Entry { tag, kind, at, expires, mid, append }, origin)
    }

    /// Waits until all accepted messages are delivered to the listeners here. Cancel safe.
    pub(crate) async fn delivered(&self) {
        // A message passes through the request, the log and the hub in this order.
        self.at_work.close();
        self.at_work.wait().await;
        self.log.answered().await;
        self.hub.delivered().await;
    }

    /// Counts the reply in the metrics and logs it, if it is an error. `from` is the address of the
    /// client, if it is known.
    pub(crate) fn note(&self, reply: &Reply, from: Option<IpAddr>) {
        if let Reply::Refused(refusal) = reply {
            self.counters.refused(refusal.code.as_str());
            refusal_log::log(refusal, from);
        }
    }
}
