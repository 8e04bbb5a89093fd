//! What concerns one person: where a cursor stands, what was read, the inbox, logging out.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Service;
use crate::access::auth::{Key, Protectable};
use crate::access::visitor::Visitor;
use crate::clock::now_ms;
use crate::conn::frame;
use crate::entry::{Applied, EntryKind};
use crate::id::{Address, Tag};
use crate::log::Appending;
use crate::protocol::Mark;
use crate::protocol::{Cursor, ErrorCode, PersonRequest, Read, Refusal, Reply};

impl Service {
    /// Ends when this server has caught up with what the cursor's client has seen at another. `None`
    /// if it has already.
    #[must_use]
    pub(crate) fn lag(&self, since: Option<&Cursor>) -> Option<BoxFuture<'static, ()>> {
        self.log.cluster()?.catch_up(self.position(since)?)
    }

    /// Whether this server can serve a cursor, after [`Service::lag`].
    ///
    /// # Errors
    /// `unavailable`, refused, while this server lags behind what the client has seen.
    pub(crate) fn admit_cursor(&self, since: Option<&Cursor>) -> Result<(), Refusal> {
        match (self.log.cluster(), self.position(since)) {
            (Some(cluster), Some(seq)) => cluster.admit(seq),
            _ => Ok(()),
        }
    }

    /// The last entry that the cursor's client has seen, if the cursor is one of this log.
    fn position(&self, since: Option<&Cursor>) -> Option<u64> {
        let Cursor { epoch, seq } = since?;
        (**epoch == *self.hub.epoch()).then_some(*seq)
    }

    /// Notes what a person has read. Only what changes an inbox has a place in the log, which whoever
    /// repeats himself could fill otherwise; the person's other connections are told of the rest
    /// beside it. What others have applied and this server has not is waited for. `origin` is the
    /// connection that says so.
    #[must_use]
    pub(crate) fn read(
        self: &Arc<Self>,
        read: &Read,
        address: Address,
        origin: Option<u64>,
    ) -> Option<Appending> {
        let (tag, mark, last) = (&read.tag, &read.mark, read.mark.last());
        let lag = self.log.cluster().and_then(|cluster| cluster.catch_up(last));
        let Some(lag) = lag else { return self.read_here(tag, mark, address, origin) };
        let (service, tag, mark) = (Arc::clone(self), tag.clone(), mark.clone());
        Some(Appending::later(async move {
            lag.await;
            service.log.cluster().map_or(Ok(()), |cluster| cluster.admit(last))?;
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
            // What is yet to come was not read.
            Mark::UpTo(seq) => Mark::UpTo((*seq).min(self.hub.head())),
            only => only.clone(),
        };
        if self.hub.marks_anything(tag, address, &mark) {
            return Some(self.append_event(tag.clone(), EntryKind::Read(address, mark), origin));
        }
        self.hub.tell_read(tag, address, &mark, origin);
        if let Some(cluster) = self.log.cluster() {
            cluster.tell_read(tag, address, &mark);
        }
        None
    }

    /// Notes what a person has read, for a sender that knows that person's ID.
    ///
    /// # Errors
    /// `bad_tag`, `denied`, `rate_limited`, `bad_request` without an ID.
    pub(crate) fn read_for(
        self: &Arc<Self>,
        visitor: &mut Visitor,
        read: &Read,
        otherwise: Option<&Key>,
    ) -> Result<Option<Appending>, Refusal> {
        self.admit(visitor, &read.tag, Protectable::Set, read.key.as_ref().or(otherwise))?;
        let Some(id) = &read.id else {
            return Err(Refusal::bad("`id` is missing".into()));
        };
        Ok(self.read(read, self.address(&read.tag, id), None))
    }

    /// A person's unread messages.
    ///
    /// # Errors
    /// `bad_tag`, `rate_limited`; `denied` where listening needs a key that was not given.
    pub(crate) fn inbox(
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

    /// Logs a person out: ends the ID's connections and empties its inbox.
    ///
    /// # Errors
    /// `bad_tag`, `rate_limited`; `denied`, also where no key is configured for it.
    pub(crate) fn log_out(
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
        Ok(self.append_event(person.tag.clone(), EntryKind::Drop(address), None))
    }
}
