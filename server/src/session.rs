//! What one WebSocket connection has said so far, and the answers it is owed.
//!
//! No reading or waiting happens here: text goes in, frames go to the outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;

use crate::auth::{Key, Protectable};
use crate::connection::Connection;
use crate::frame::text_frame;
use crate::hub::{Earlier, Registration};
use crate::id::Tag;
use crate::limits;
use crate::log::Appending;
use crate::protocol::{
    self, Action, ErrorCode, Incoming, Publish, Read, Reference, Refusal, Reply, Set,
};
use crate::publish::{Asked, Service, now_ms};

/// A connection's registrations, remembered keys and unanswered requests.
///
/// Dropping it takes the connection off both lists.
#[derive(Debug)]
pub struct Session {
    service: Arc<Service>,
    connection: Arc<Connection>,
    registered: Vec<Registered>,
    /// In the order of the requests.
    unanswered: VecDeque<Unanswered>,
    /// A request that waits until all before it are answered.
    next: Option<Box<Incoming>>,
    acted: bool,
}

#[derive(Debug)]
struct Registered {
    registration: Registration,
    /// It is handed everything above this.
    from: u64,
    keys: Vec<(Protectable, Key)>,
}

#[derive(Debug)]
struct Unanswered {
    reference: Reference,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Known(Reply),
    Appending { asked: Asked, outcome: Appending },
}

impl Session {
    /// A connection that has not said anything.
    #[must_use]
    pub fn new(service: Arc<Service>, connection: Arc<Connection>) -> Self {
        Self {
            service,
            connection,
            registered: Vec::new(),
            unanswered: VecDeque::new(),
            next: None,
            acted: false,
        }
    }

    /// Takes one text message. Ask [`Session::is_ready`] first.
    pub fn on_text(&mut self, text: &str) {
        let incoming = protocol::parse(text);
        match incoming.action {
            // What these do would overtake the messages before them.
            Ok(Action::Set(_) | Action::Unset(_) | Action::Read(_))
                if !self.unanswered.is_empty() =>
            {
                self.next = Some(Box::new(incoming));
            }
            _ => self.perform(incoming),
        }
    }

    /// Whether another text may be taken: not too many are unanswered, and none has to wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unanswered.len() < limits::IN_FLIGHT && self.next.is_none()
    }

    /// Whether answers are owed.
    #[must_use]
    pub fn owes_answers(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Whether the connection listens to anything.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        !self.registered.is_empty()
    }

    /// Everything that was written for the connection is taken: it can take more.
    pub fn drained(&self) {
        self.service.hub.drained(&self.connection);
    }

    /// Whether a valid action came since this was asked last.
    pub fn take_acted(&mut self) -> bool {
        std::mem::take(&mut self.acted)
    }

    /// Gives the answers whose outcome is known, oldest first, and goes on with what waited for
    /// them. Ready when there was at least one. Cancel safe.
    pub fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut answered = Poll::Pending;
        while let Some(oldest) = self.unanswered.front_mut() {
            let reply = match &mut oldest.answer {
                Answer::Known(reply) => reply.clone(),
                Answer::Appending { asked, outcome } => match outcome.poll_unpin(context) {
                    Poll::Ready(outcome) => asked.reply(outcome),
                    Poll::Pending => return answered,
                },
            };
            reply_with(&self.service, &self.connection, &oldest.reference, &reply);
            self.unanswered.pop_front();
            answered = Poll::Ready(());
        }
        if let Some(next) = self.next.take() {
            self.perform(*next);
        }
        ready!(answered);
        Poll::Ready(())
    }

    fn perform(&mut self, incoming: Incoming) {
        let Incoming { reference, action } = incoming;
        let result = match action {
            Err(refusal) => Err(refusal),
            Ok(Action::Ping) => Ok(Answer::Known(Reply::Ping)),
            Ok(Action::Publish(publish)) => self.publish(*publish),
            Ok(Action::Read(read)) => self.read(&read),
            Ok(Action::Inbox(_) | Action::Drop(_)) => {
                Err(Refusal::bad("this action goes to POST /messages".into()))
            }
            Ok(Action::Unset(tag)) => self.unset(tag).map(Answer::Known),
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
        let answer = result.unwrap_or_else(|refusal| Answer::Known(Reply::Refused(refusal)));
        self.answer(reference, answer);
    }

    /// Answers at once if nothing before it is unanswered and the outcome is known.
    fn answer(&mut self, reference: Reference, mut answer: Answer) {
        if self.unanswered.is_empty() {
            let known = match &mut answer {
                Answer::Known(reply) => Some(reply.clone()),
                Answer::Appending { asked, outcome } => {
                    outcome.now_or_never().map(|outcome| asked.reply(outcome))
                }
            };
            if let Some(reply) = known {
                return reply_with(&self.service, &self.connection, &reference, &reply);
            }
        }
        self.unanswered.push_back(Unanswered { reference, answer });
    }

    fn publish(&self, publish: Publish) -> Result<Answer, Refusal> {
        let action = publish.action();
        let remembered = self
            .registered
            .iter()
            .find(|registered| registered.registration.tag == publish.tag)
            .and_then(|registered| registered.keys.iter().find(|(of, _)| *of == action))
            .map(|(_, key)| key);
        let outcome = self.service.publish(publish, remembered)?;
        Ok(Answer::Appending { asked: Asked::Message(action), outcome })
    }

    fn read(&self, read: &Read) -> Result<Answer, Refusal> {
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
            None => Answer::Known(Reply::Read),
            Some(outcome) => Answer::Appending { asked: Asked::Read, outcome },
        })
    }

    fn set(&mut self, set: Set, reference: &Reference) -> Result<(), Refusal> {
        let service = Arc::clone(&self.service);
        service.check_tag(&set.tag)?;
        let own = set.keys.iter().filter(|(action, _)| *action == Protectable::Set);
        let keys = set.key.iter().chain(own.map(|(_, key)| key));
        service.authorise(&set.tag, Protectable::Set, keys)?;
        let place = self.registered.iter().position(|known| known.registration.tag == set.tag);
        if place.is_none() && self.registered.len() >= limits::TAGS_PER_CONNECTION {
            return Err(Refusal::bad(format!(
                "a connection listens on {} tags at most; unset one, or open another connection",
                limits::TAGS_PER_CONNECTION
            )));
        }
        let registration = Registration {
            address: set.id.as_ref().map(|id| service.address(&set.tag, id)),
            tag: set.tag,
        };
        let earlier = place.map(|place| {
            let Registered { registration, from, .. } = &self.registered[place];
            Earlier { registration, from: *from }
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
        let registered = Registered { registration, from: stands.from, keys: set.keys };
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
        let place = self.registered.iter().position(|known| known.registration.tag == tag);
        let Some(place) = place else {
            return Err(Refusal::new(
                ErrorCode::NotRegistered,
                "this connection does not listen on the tag".into(),
            ));
        };
        let gone = self.registered.swap_remove(place);
        self.service.hub.unregister(&self.connection, [&gone.registration]);
        Ok(Reply::Unset { tag })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let registrations = self.registered.iter().map(|registered| &registered.registration);
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
