//! What one WebSocket connection has said so far, and the answers it is owed.
//!
//! No reading or waiting happens here: text goes in, frames go to the outbox.

mod handler;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::access::auth::{Key, Protectable};
use crate::access::visitor::Visitor;
use crate::clock::now_ms;
use crate::conn::connection::Connection;
use crate::conn::frame::text_frame;
use crate::hub::{Earlier, Generation, Registered as Stands, Registration};
use crate::id::Tag;
use crate::limits;
use crate::log::Appending;
use crate::protocol::{
    self, Action, ErrorCode, Incoming, Publish, Read, Reference, Refusal, Reply, Set,
};
use crate::publish::{Operation, Service};

/// Close code of a connection that repeats what it was refused.
pub(crate) const DEAF: u16 = 4500;

/// A connection's registrations, remembered keys and unanswered requests.
///
/// Dropping it takes the connection off both generation.
#[derive(Debug)]
pub(crate) struct Session {
    service: Arc<Service>,
    connection: Arc<Connection>,
    registered: Vec<SessionRegistration>,
    /// In the order of the requests.
    unanswered: VecDeque<UnansweredRequest>,
    /// A request that waits until all before it are answered.
    next: Option<Box<Incoming>>,
    visitor: Visitor,
    acted: bool,
}

#[derive(Debug)]
struct SessionRegistration {
    registration: Registration,
    /// It is handed everything above this.
    from: u64,
    generation: Generation,
    keys: Vec<(Protectable, Key)>,
}

#[derive(Debug)]
struct UnansweredRequest {
    reference: Reference,
    answer: PendingReply,
}

/// This server's coming as far as the client was elsewhere.
struct Lag(BoxFuture<'static, ()>);

impl fmt::Debug for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lag")
    }
}

#[derive(Debug)]
enum PendingReply {
    Known(Reply),
    Appending {
        asked: Operation,
        outcome: Appending,
    },
    /// None is owed: what comes next waits for this.
    Waiting(Lag),
}

impl Session {
    /// A connection that has not said anything.
    #[must_use]
    pub(crate) fn new(
        service: Arc<Service>,
        connection: Arc<Connection>,
        visitor: Visitor,
    ) -> Self {
        Self {
            service,
            connection,
            registered: Vec::new(),
            unanswered: VecDeque::new(),
            next: None,
            visitor,
            acted: false,
        }
    }

    fn perform(&mut self, incoming: Incoming) {
        let Incoming { reference, action } = incoming;
        let result = match action {
            Err(refusal) => self.counted().and(Err(refusal)),
            Ok(Action::Ping) => self.counted().map(|()| PendingReply::Known(Reply::Ping)),
            Ok(Action::Publish(publish)) => self.publish(*publish),
            Ok(Action::Read(read)) => self.read(&read),
            Ok(Action::Inbox(_) | Action::Drop(_)) => {
                let refusal = Refusal::bad("this action goes to POST /messages".into());
                self.counted().and(Err(refusal))
            }
            Ok(Action::Unset(tag)) => self.unset(tag).map(PendingReply::Known),
            Ok(Action::Set(set)) => match self.set(*set, &reference) {
                // The reply is written: it must precede what the registration brings.
                Ok(()) => {
                    self.acted = true;
                    return;
                }
                Err(refusal) => Err(refusal),
            },
        };
        self.acted |= result.is_ok();
        let answer = result.unwrap_or_else(|refusal| PendingReply::Known(Reply::Refused(refusal)));
        self.answer(reference, answer);
        if self.visitor.is_deaf() {
            self.connection.outbox().close(DEAF, "goes on although it was told to wait");
        }
    }

    fn counted(&mut self) -> Result<(), Refusal> {
        self.service.count(&mut self.visitor)
    }

    /// Answers at once if nothing before it is unanswered and the outcome is known.
    fn answer(&mut self, reference: Reference, mut answer: PendingReply) {
        if self.unanswered.is_empty() {
            let known = match &mut answer {
                PendingReply::Known(reply) => Some(reply.clone()),
                PendingReply::Appending { asked, outcome } => {
                    outcome.now_or_never().map(|outcome| asked.reply(outcome))
                }
                PendingReply::Waiting(_) => None,
            };
            if let Some(reply) = known {
                return reply_with(&self.service, &self.connection, &reference, &reply);
            }
        }
        self.unanswered.push_back(UnansweredRequest { reference, answer });
    }

    fn publish(&mut self, publish: Publish) -> Result<PendingReply, Refusal> {
        let action = publish.action();
        let remembered = self
            .registered
            .iter()
            .find(|registered| registered.registration.tag == publish.tag)
            .and_then(|registered| registered.keys.iter().find(|(of, _)| *of == action))
            .map(|(_, key)| key);
        let outcome = self.service.publish(&mut self.visitor, publish, remembered)?;
        Ok(PendingReply::Appending { asked: Operation::Message(action), outcome })
    }

    fn read(&mut self, read: &Read) -> Result<PendingReply, Refusal> {
        self.counted()?;
        if read.id.is_some() || read.key.is_some() {
            return Err(Refusal::bad(
                "over a WebSocket, read is for the ID that the connection listens under".into(),
            ));
        }
        let listening = self.registered.iter().find_map(|registered| {
            let Registration { tag, address } = &registered.registration;
            address.filter(|_| *tag == read.tag)
        });
        let Some(address) = listening else {
            return Err(Refusal::new(
                ErrorCode::NotRegistered,
                "this connection does not listen on the tag under an ID".into(),
            ));
        };
        let origin = Some(self.connection.number());
        Ok(match self.service.read(read, address, origin) {
            None => PendingReply::Known(Reply::Read),
            Some(outcome) => PendingReply::Appending { asked: Operation::Read, outcome },
        })
    }

    fn set(&mut self, set: Set, reference: &Reference) -> Result<(), Refusal> {
        let service = Arc::clone(&self.service);
        service.count_set(&mut self.visitor)?;
        service.check_tag(&set.tag)?;
        service.admit_cursor(set.resume.since.as_ref())?;
        let own = set.keys.iter().filter(|(action, _)| *action == Protectable::Set);
        let keys = set.key.iter().chain(own.map(|(_, key)| key));
        service.authorise(&mut self.visitor, &set.tag, Protectable::Set, keys)?;
        let place = self.registered.iter().position(|known| known.registration.tag == set.tag);
        if place.is_none() && self.registered.len() >= limits::TAGS_PER_CONNECTION {
            return Err(Refusal::bad(format!(
                "a connection listens on {} tags at most; unset one, or open another connection",
                limits::TAGS_PER_CONNECTION
            )));
        }
        if place.is_none() {
            service.hub.admit_registration(&set.tag)?;
        }
        let registration = Registration {
            address: set.id.as_ref().map(|id| service.address(&set.tag, id)),
            tag: set.tag,
        };
        let earlier = place.map(|place| {
            let SessionRegistration { registration, from, generation, .. } =
                &self.registered[place];
            Earlier { registration, from: *from, generation: *generation }
        });
        service.hub.admit()?;
        // Nothing that the registration brings may be written before its reply.
        let connection = Arc::clone(&self.connection);
        let held = connection.outbox().hold();
        let stands =
            service.hub.register(&connection, &registration, earlier, &set.resume, now_ms());
        let reply = Reply::Set {
            tag: registration.tag.clone(),
            epoch: service.hub.epoch().into(),
            recovered: stands.recovered,
            unread: stands.unread,
        };
        let reply = text_frame(&reply.to_json(reference));
        held.release(match stands.live {
            // In one write with the reply.
            Some(head) => {
                let live = text_frame(&protocol::live(&registration.tag, head));
                [reply, live].concat().into()
            }
            None => reply,
        });
        let Stands { from, generation, .. } = stands;
        let registered = SessionRegistration { registration, from, generation, keys: set.keys };
        match place {
            Some(place) => self.registered[place] = registered,
            None => {
                // Most connections have one, and a vector that grows begins with four.
                self.registered.reserve_exact(1);
                self.registered.push(registered);
            }
        }
        Ok(())
    }

    fn unset(&mut self, tag: Tag) -> Result<Reply, Refusal> {
        self.service.count_set(&mut self.visitor)?;
        let place = self.registered.iter().position(|known| known.registration.tag == tag);
        let Some(place) = place else {
            return Err(Refusal::new(
                ErrorCode::NotRegistered,
                "this connection does not listen on the tag".into(),
            ));
        };
        let gone = self.registered.swap_remove(place);
        self.service.hub.unregister(&self.connection, [(&gone.registration, gone.generation)]);
        Ok(Reply::Unset { tag })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let registrations = self
            .registered
            .iter()
            .map(|registered| (&registered.registration, registered.generation));
        self.service.hub.unregister(&self.connection, registrations);
    }
}

fn reply_with(service: &Service, connection: &Connection, reference: &Reference, reply: &Reply) {
    service.note(reply);
    // Closed or broken: a failed reply cancels nothing.
    connection.outbox().push(&text_frame(&reply.to_json(reference)));
}

#[cfg(test)]
mod tests;
