//! The session of one WebSocket. It performs the requests and writes the replies in the order of
//! the requests.
//!
//! The session does no I/O and does not wait. It gets text and writes frames to the outbox.

mod handler;

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::access::visitor::Visitor;
use crate::conn::connection::Connection;
use crate::conn::frame::text_frame;
use crate::protocol::{ParsedRequest, Reference, Reply};
use crate::publish::Service;
use crate::publish::dispatcher::{Dispatcher, PendingReply, Via};
use crate::publish::registrations::Registrations;

/// Close code of a connection that ignores the rate limits.
pub(crate) const DEAF: u16 = 4500;

/// The registrations and the unanswered requests of a connection. Dropping it ends the
/// registrations.
pub(crate) struct Session {
    service: Arc<Service>,
    registrations: Registrations,
    /// The requests that are not answered yet, in their order.
    unanswered: VecDeque<Unanswered>,
    /// A request that waits until all requests before it are answered.
    next: Option<Box<ParsedRequest>>,
    visitor: Visitor,
    acted: bool,
}

enum Unanswered {
    Reply(Reference, PendingReply),
    /// This element needs no reply. The next request waits until this server has applied all
    /// entries that the client has seen at another server.
    Lag(BoxFuture<'static, ()>),
}

impl Session {
    pub(crate) fn new(
        service: Arc<Service>,
        connection: Arc<Connection>,
        visitor: Visitor,
    ) -> Self {
        Self {
            service,
            registrations: Registrations::new(connection),
            unanswered: VecDeque::new(),
            next: None,
            visitor,
            acted: false,
        }
    }

    fn perform(&mut self, incoming: ParsedRequest) {
        let ParsedRequest { reference, action } = incoming;
        let (service, visitor) = (&self.service, &mut self.visitor);
        let via = Via::WebSocket(&mut self.registrations);
        let result = Dispatcher { service, visitor, via }.perform(action, &reference);
        self.acted |= result.is_ok();
        let pending = match result {
            // The reply has already been written to the outbox.
            Ok(None) => return,
            Ok(Some(pending)) => pending,
            Err(refusal) => PendingReply::Known(Reply::Refused(refusal)),
        };
        self.answer(reference, pending);
        if self.visitor.is_deaf() {
            let outbox = &self.registrations.connection.outbox;
            outbox.close(DEAF, "ignored the rate limits");
        }
    }

    /// Answers at once if the reply is known and all earlier requests are answered. Otherwise
    /// stores the pending reply.
    fn answer(&mut self, reference: Reference, mut pending: PendingReply) {
        if self.unanswered.is_empty()
            && let Some(reply) = (&mut pending).now_or_never()
        {
            return self.reply(&reference, &reply);
        }
        self.unanswered.push_back(Unanswered::Reply(reference, pending));
    }

    fn reply(&self, reference: &Reference, reply: &Reply) {
        self.service.note(reply, self.visitor.address);
        // If the connection is closed or broken, the reply is lost. The action remains performed.
        self.registrations.connection.outbox.push(&text_frame(&reply.to_json(reference)));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.registrations.unregister(&self.service.hub);
    }
}

#[cfg(test)]
mod tests;
