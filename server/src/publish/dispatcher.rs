//! Performs one action that a client sent over a WebSocket or HTTP, and yields the reply.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::access::visitor::Visitor;
use crate::entry::Appended;
use crate::log::Appending;
use crate::protocol::{Action, Key, Protectable, Publish, Reference, Refusal, Reply};
use crate::publish::Service;
use crate::publish::registrations::Registrations;

/// The way by which an action came in, with the data that only this way has.
pub(crate) enum Via<'a> {
    WebSocket(&'a mut Registrations),
    /// `POST /messages`, perhaps with the key of the `Authorization` header.
    Post(Option<&'a Key>),
}

/// Checks permissions and rate limits, then performs the action.
pub(crate) struct Dispatcher<'a> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) visitor: &'a mut Visitor,
    pub(crate) via: Via<'a>,
}

impl Dispatcher<'_> {
    /// Performs an action. `None` means that the reply is in the outbox already: the reply to `set`
    /// must be written before the messages of the new registration.
    ///
    /// # Errors
    /// The refusal that is the reply.
    pub(crate) fn perform(
        self,
        action: Result<Action, Refusal>,
        reference: &Reference,
    ) -> Result<Option<PendingReply>, Refusal> {
        let Self { service, visitor, via } = self;
        let pending = match (action, via) {
            (Err(refusal), _) => {
                service.count(visitor)?;
                return Err(refusal);
            }
            (Ok(Action::Publish(publish)), via) => {
                let operation = Operation::Message(publish.action());
                let appending =
                    service.publish(visitor, *publish, |publish| via.key_of(publish))?;
                PendingReply::Appending { operation, appending }
            }
            (Ok(Action::Set(set)), Via::WebSocket(registrations)) => {
                registrations.set(service, visitor, *set, reference)?;
                return Ok(None);
            }
            (Ok(Action::Unset(tag)), Via::WebSocket(registrations)) => {
                service.count_set(visitor)?;
                PendingReply::Known(registrations.unset(&service.hub, tag)?)
            }
            (Ok(Action::Ping), Via::WebSocket(_)) => {
                service.count(visitor)?;
                PendingReply::Known(Reply::Ping)
            }
            (Ok(Action::Read(read)), via) => {
                let (address, origin) = match via {
                    Via::WebSocket(registrations) => {
                        service.count(visitor)?;
                        registrations.reader(&read)?
                    }
                    Via::Post(bearer) => (service.reader(visitor, &read, bearer)?, None),
                };
                match service.read(&read, address, origin) {
                    Some(appending) => {
                        PendingReply::Appending { operation: Operation::Read, appending }
                    }
                    None => PendingReply::Known(Reply::Read),
                }
            }
            (Ok(Action::Drop(person)), Via::Post(bearer)) => PendingReply::Appending {
                operation: Operation::Drop,
                appending: service.log_out(visitor, &person, bearer)?,
            },
            (Ok(Action::Inbox(person)), Via::Post(bearer)) => {
                PendingReply::Known(service.inbox(visitor, &person, bearer)?)
            }
            (Ok(Action::Drop(_) | Action::Inbox(_)), Via::WebSocket(_)) => {
                service.count(visitor)?;
                return Err(Refusal::bad("send this action to POST /messages".into()));
            }
            (Ok(Action::Set(_) | Action::Unset(_) | Action::Ping), Via::Post(_)) => {
                service.count(visitor)?;
                return Err(needs_websocket());
            }
        };
        Ok(Some(pending))
    }
}

impl Via<'_> {
    /// The key to check if the message itself contains no key.
    fn key_of(&self, publish: &Publish) -> Option<&Key> {
        match self {
            Self::WebSocket(registrations) => registrations.key(&publish.tag, publish.action()),
            Self::Post(bearer) => *bearer,
        }
    }
}

pub(crate) fn needs_websocket() -> Refusal {
    Refusal::bad("this action needs a WebSocket, at /ws".into())
}

/// The future reply to an action. Do not poll it again once it is ready.
pub(crate) enum PendingReply {
    Known(Reply),
    Appending { operation: Operation, appending: Appending },
}

impl Future for PendingReply {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        Poll::Ready(match &mut *self {
            // The reply is moved out rather than cloned, because an inbox may be large.
            Self::Known(reply) => std::mem::replace(reply, Reply::Ping),
            Self::Appending { operation, appending } => {
                operation.reply(ready!(Pin::new(appending).poll(context)))
            }
        })
    }
}

/// The kind of request that led to an append; the reply names it.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    /// `send` or `broadcast`.
    Message(Protectable),
    Read,
    Drop,
}

impl Operation {
    fn reply(self, outcome: Appended) -> Reply {
        match (self, outcome) {
            (_, Err(refusal)) => Reply::Refused(refusal),
            (Self::Message(action), Ok(applied)) => Reply::Published {
                action,
                seq: applied.seq,
                clients: applied.clients,
                stored: (action == Protectable::Send).then_some(applied.stored),
                duplicate: applied.duplicate,
                partial: applied.partial,
            },
            (Self::Read, Ok(_)) => Reply::Read,
            (Self::Drop, Ok(applied)) => Reply::Dropped {
                seq: applied.seq,
                clients: applied.clients,
                partial: applied.partial,
            },
        }
    }
}
