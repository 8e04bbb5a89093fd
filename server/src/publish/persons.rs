//! Requests about one person: read marks, the inbox, logging out, and cursors of other servers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Service, now_ms};
use crate::access::visitor::Visitor;
use crate::conn::frame;
use crate::id::{Address, Tag};
use crate::log::{Appending, Applied, EntryKind, Mark};
use crate::protocol::{
    Cursor, ErrorCode, Key, Outcome, PersonRequest, Protectable, Read, Refusal, Reply,
};

/// How long a client that was at another server waits until this one has come as far.
const LAG: Duration = Duration::from_secs(2);

impl Service {
    /// What a cursor has seen elsewhere and this server has not applied yet, if that is so: ends when
    /// it has, or after two seconds.
    #[must_use]
    pub(crate) fn lag(&self, since: Option<&Cursor>) -> Option<BoxFuture<'static, ()>> {
        let seq = self.elsewhere(since)?;
        let hub = Arc::clone(&self.hub);
        Some(async move { hub.has_applied(seq, LAG).await }.boxed())
    }

    /// Whether this server can serve a cursor, after [`Service::lag`].
    ///
    /// # Errors
    /// `unavailable`, refused, while it is behind what the client has seen: what it would be told of a
    /// loss is not true, and all of it would come twice.
    pub(crate) fn admit_cursor(&self, since: Option<&Cursor>) -> Result<(), Refusal> {
        match self.elsewhere(since) {
            Some(seq) if self.is_behind(seq) => Err(behind()),
            _ => Ok(()),
        }
    }

    /// The seq of a cursor of this log that is beyond what was applied here.
    fn elsewhere(&self, since: Option<&Cursor>) -> Option<u64> {
        let Cursor { epoch, seq } = since.filter(|_| self.log.is_shared())?;
        (**epoch == *self.hub.epoch() && *seq > self.hub.head()).then_some(*seq)
    }

    /// Whether there may be an entry of this number that was not applied here yet.
    fn is_behind(&self, seq: u64) -> bool {
        let head = self.hub.head();
        seq > head && (self.log.known() > head || self.log.not_ready().is_some())
    }

    /// Marks messages as read. Only a mark that changes an inbox is appended to the log, because repeated
    /// marks could fill it; any other is sent to the person's connections directly. Entries that only
    /// other servers have applied are awaited. `origin` is the connection that sends the mark.
    #[must_use]
    pub(super) fn read(
        self: &Arc<Self>,
        read: &Read,
        address: Address,
        origin: Option<u64>,
    ) -> Option<Appending> {
        let (tag, mark, head) = (&read.tag, &read.mark, self.hub.head());
        let last = mark.last();
        if last <= head || !self.log.is_shared() {
            return self.read_here(tag, mark, address, origin);
        }
        let (service, tag, mark) = (Arc::clone(self), tag.clone(), mark.clone());
        Some(Appending::later(async move {
            service.hub.has_applied(last, LAG).await;
            if service.is_behind(last) {
                return Err(behind());
            }
            match service.read_here(&tag, &mark, address, origin) {
                Some(appending) => appending.await,
                None => Ok(Applied::nothing(service.hub.head())),
            }
        }))
    }

    fn read_here(
        &self,
        tag: &Tag,
        mark: &Mark,
        address: Address,
        origin: Option<u64>,
    ) -> Option<Appending> {
        let mark = match mark {
            // A later message was not read.
            Mark::UpTo(seq) => Mark::UpTo((*seq).min(self.hub.head())),
            only => only.clone(),
        };
        if self.hub.marks_anything(tag, address, &mark) {
            return Some(self.append(tag.clone(), EntryKind::Read(address, mark), origin));
        }
        self.hub.tell_read(tag, address, &mark, origin);
        self.log.tell_read(tag, address, &mark);
        None
    }

    /// The address of a `read` over HTTP, which a sender marks for a person whose ID it knows.
    ///
    /// # Errors
    /// `bad_tag`, `denied`, `rate_limited`, `bad_request` without an ID.
    pub(super) fn reader(
        &self,
        visitor: &mut Visitor,
        read: &Read,
        otherwise: Option<&Key>,
    ) -> Result<Address, Refusal> {
        self.admit(visitor, &read.tag, Protectable::Set, read.key.as_ref().or(otherwise))?;
        let Some(id) = &read.id else {
            return Err(Refusal::bad("`id` is missing".into()));
        };
        Ok(self.address(&read.tag, id))
    }

    /// The unread messages of a person.
    ///
    /// # Errors
    /// `bad_tag`, `rate_limited`; `denied` without the key for `set`.
    pub(super) fn inbox(
        &self,
        visitor: &mut Visitor,
        person: &PersonRequest,
        otherwise: Option<&Key>,
    ) -> Result<Reply, Refusal> {
        self.admit(visitor, &person.tag, Protectable::Set, person.key.as_ref().or(otherwise))?;
        let address = self.address(&person.tag, &person.id);
        let unread = self.hub.unread(&person.tag, address, now_ms());
        Ok(Reply::Inbox {
            tag: person.tag.clone(),
            epoch: self.hub.epoch().into(),
            seq: unread.head,
            messages: unread.frames.iter().map(|frame| frame::text_of(frame).into()).collect(),
        })
    }

    /// Logs a person out: closes the connections under the ID and empties its inbox.
    ///
    /// # Errors
    /// `bad_tag`, `rate_limited`; `denied`, also if no key is configured for `drop`.
    pub(super) fn log_out(
        &self,
        visitor: &mut Visitor,
        person: &PersonRequest,
        otherwise: Option<&Key>,
    ) -> Result<Appending, Refusal> {
        self.admit(visitor, &person.tag, Protectable::Drop, person.key.as_ref().or(otherwise))?;
        if !self.policy.load().auth.is_protected(&person.tag, Protectable::Drop) {
            let detail =
                format!("drop needs a key, and none is configured for it on {}", person.tag);
            return Err(Refusal::new(ErrorCode::Denied, detail.into()));
        }
        let address = self.address(&person.tag, &person.id);
        Ok(self.append(person.tag.clone(), EntryKind::Drop(address), None))
    }
}

fn behind() -> Refusal {
    let why = "this server lags behind the one you used before; retry, or use another server";
    Refusal::unavailable(Outcome::Refused, why)
}
