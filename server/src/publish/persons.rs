//! Requests about one person (read marks, the inbox, logout), and cursors that other servers gave
//! out.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Service;
use crate::access::visitor::Visitor;
use crate::clock::now_ms;
use crate::conn::frame;
use crate::entry::{Applied, EntryKind};
use crate::id::{Address, Tag};
use crate::log::Appending;
use crate::protocol::{Cursor, Key, Mark, PersonRequest, Protectable, Read, Refusal, Reply};

impl Service {
    /// Completes when this server has applied every entry that the client has seen at another
    /// server. `None` if it has applied them already.
    pub(crate) fn lag(&self, since: Option<&Cursor>) -> Option<BoxFuture<'static, ()>> {
        self.log.cluster()?.catch_up(self.position(since)?)
    }

    /// Checks, after [`Service::lag`], whether this server can serve a cursor.
    ///
    /// # Errors
    /// `unavailable` with the outcome `refused`, while this server lags behind the client's cursor.
    pub(crate) fn admit_cursor(&self, since: Option<&Cursor>) -> Result<(), Refusal> {
        match (self.log.cluster(), self.position(since)) {
            (Some(cluster), Some(seq)) => cluster.admit(seq),
            _ => Ok(()),
        }
    }

    /// The number of the last entry that the client has seen, if the cursor belongs to this log.
    fn position(&self, since: Option<&Cursor>) -> Option<u64> {
        let Cursor { epoch, seq } = since?;
        (**epoch == *self.hub.epoch).then_some(*seq)
    }

    /// Marks messages as read. A mark is appended to the log only if it changes an inbox, because
    /// repeated marks could fill the log. Any other mark is sent to the person's connections
    /// directly. If the mark names entries that only other servers have applied, the mark waits for
    /// them. `origin` is the connection that sent the mark.
    pub(super) fn read(
        self: &Arc<Self>,
        read: &Read,
        address: Address,
        origin: Option<u64>,
    ) -> Option<Appending> {
        let (tag, mark, last) = (&read.tag, &read.mark, read.mark.last());
        let lag = self.log.cluster().and_then(|cluster| cluster.catch_up(last));
        let Some(lag) = lag else { return self.read_here(tag, mark, address, origin) };
        let (service, tag, mark) = (Arc::clone(self), tag.clone(), mark.clone());
        Some(Appending::Later(Box::pin(async move {
            lag.await;
            service.log.cluster().map_or(Ok(()), |cluster| cluster.admit(last))?;
            match service.read_here(&tag, &mark, address, origin) {
                Some(appending) => appending.await,
                None => Ok(Applied::nothing(service.hub.head())),
            }
        })))
    }

    fn read_here(
        &self,
        tag: &Tag,
        mark: &Mark,
        address: Address,
        origin: Option<u64>,
    ) -> Option<Appending> {
        let mark = match mark {
            // The mark must not cover messages that come later.
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

    /// The address for a `read` over HTTP, by which a sender marks messages for a person whose ID
    /// it knows.
    ///
    /// # Errors
    /// `bad_tag`, `denied`, `rate_limited`; `bad_request` if the ID is missing.
    pub(super) fn reader(
        &self,
        visitor: &mut Visitor,
        read: &Read,
        otherwise: Option<&Key>,
    ) -> Result<Address, Refusal> {
        self.admit(visitor, &read.tag, Protectable::Set, read.key.as_ref().or(otherwise))?;
        let id = read.id.as_ref().ok_or_else(|| Refusal::bad("`id` is missing".into()))?;
        Ok(self.id_key.address(&read.tag, id))
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
        let address = self.id_key.address(&person.tag, &person.id);
        let unread = self.hub.unread(&person.tag, address, now_ms());
        Ok(Reply::Inbox {
            tag: person.tag.clone(),
            epoch: self.hub.epoch.clone(),
            seq: unread.head,
            messages: unread.frames.iter().map(|frame| frame::text_of(frame).into()).collect(),
        })
    }

    /// Logs a person out: closes the person's connections on the tag and empties the inbox.
    ///
    /// # Errors
    /// `bad_tag`, `rate_limited`; `denied`.
    pub(super) fn log_out(
        &self,
        visitor: &mut Visitor,
        person: &PersonRequest,
        otherwise: Option<&Key>,
    ) -> Result<Appending, Refusal> {
        self.admit(visitor, &person.tag, Protectable::Drop, person.key.as_ref().or(otherwise))?;
        let address = self.id_key.address(&person.tag, &person.id);
        Ok(self.append_event(person.tag.clone(), EntryKind::Drop(address), None))
    }
}
