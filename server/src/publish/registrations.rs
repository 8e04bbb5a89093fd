//! The registrations of one WebSocket connection, and the keys that the client sent with them.

use std::sync::Arc;

use crate::access::visitor::Visitor;
use crate::clock::now_ms;
use crate::conn::connection::Connection;
use crate::conn::frame::text_frame;
use crate::hub::{Earlier, Generation, Hub, Registered, Registration};
use crate::id::{Address, Tag};
use crate::limits;
use crate::protocol::{self, ErrorCode, Key, Protectable, Read, Reference, Refusal, Reply, Set};
use crate::publish::Service;

/// The registrations of one connection.
pub(crate) struct Registrations {
    pub(crate) connection: Arc<Connection>,
    all: Vec<ConnRegistration>,
}

struct ConnRegistration {
    registration: Registration,
    /// The connection gets every message after this seq.
    from: u64,
    generation: Generation,
    keys: Vec<(Protectable, Key)>,
}

impl Registrations {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, all: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Ends all registrations.
    pub(crate) fn unregister(&self, hub: &Hub) {
        let all = self.all.iter().map(|one| (&one.registration, one.generation));
        hub.unregister(&self.connection, all);
    }

    /// The key for this tag and action that the connection sent with its `set`.
    pub(super) fn key(&self, tag: &Tag, action: Protectable) -> Option<&Key> {
        let keys = &self.all.iter().find(|one| one.registration.tag == *tag)?.keys;
        keys.iter().find(|(of, _)| *of == action).map(|(_, key)| key)
    }

    /// The address under which the connection listens on the tag of `read`, and the connection's
    /// number.
    pub(super) fn reader(&self, read: &Read) -> Result<(Address, Option<u64>), Refusal> {
        if read.id.is_some() || read.key.is_some() {
            return Err(Refusal::bad(
                "over a WebSocket, read takes no `id` or `key`: it is for the ID you listen under"
                    .into(),
            ));
        }
        let listening = self.all.iter().find_map(|one| {
            let Registration { tag, address } = &one.registration;
            address.filter(|_| *tag == read.tag)
        });
        let address = listening.ok_or_else(|| {
            not_registered("this connection does not listen on the tag under an ID")
        })?;
        Ok((address, Some(self.connection.number)))
    }

    /// Registers the connection and writes the reply.
    pub(super) fn set(
        &mut self,
        service: &Service,
        visitor: &mut Visitor,
        set: Set,
        reference: &Reference,
    ) -> Result<(), Refusal> {
        service.count_set(visitor)?;
        service.check_tag(&set.tag)?;
        service.admit_cursor(set.resume.since.as_ref())?;
        let own = set.keys.iter().filter(|(action, _)| *action == Protectable::Set);
        let keys = set.key.iter().chain(own.map(|(_, key)| key));
        service.authorise(visitor, &set.tag, Protectable::Set, keys)?;
        let index = self.index_of(&set.tag);
        if index.is_none() && self.all.len() >= limits::TAGS_PER_CONNECTION {
            return Err(Refusal::bad(format!(
                "a connection listens on {} tags at most; unset one, or open another connection",
                limits::TAGS_PER_CONNECTION
            )));
        }
        if index.is_none() {
            service.hub.admit_registration(&set.tag)?;
        }
        let registration = Registration {
            address: set.id.as_ref().map(|id| service.id_key.address(&set.tag, id)),
            tag: set.tag,
        };
        let earlier = index.map(|index| {
            let ConnRegistration { registration, from, generation, .. } = &self.all[index];
            Earlier { registration, from: *from, generation: *generation }
        });
        service.hub.admit()?;
        // The reply must be written before the messages of the registration.
        let held = self.connection.outbox.hold();
        let registered =
            service.hub.register(&self.connection, &registration, earlier, &set.resume, now_ms());
        let reply = Reply::Set {
            tag: registration.tag.clone(),
            epoch: service.hub.epoch.clone(),
            recovered: registered.recovered,
            unread: registered.unread,
        };
        let reply = text_frame(&reply.to_json(reference));
        held.release(match registered.live {
            // The `live` event is sent in one write with the reply.
            Some(head) => {
                let live = text_frame(&protocol::live(&registration.tag, head));
                [reply, live].concat().into()
            }
            None => reply,
        });
        let Registered { from, generation, .. } = registered;
        let new = ConnRegistration { registration, from, generation, keys: set.keys };
        match index {
            Some(index) => self.all[index] = new,
            None => {
                // Most connections have one registration, but a growing `Vec` allocates room for
                // four at first.
                self.all.reserve_exact(1);
                self.all.push(new);
            }
        }
        Ok(())
    }

    pub(super) fn unset(&mut self, hub: &Hub, tag: Tag) -> Result<Reply, Refusal> {
        let index = self.index_of(&tag);
        let index =
            index.ok_or_else(|| not_registered("this connection does not listen on the tag"))?;
        let gone = self.all.swap_remove(index);
        hub.unregister(&self.connection, [(&gone.registration, gone.generation)]);
        Ok(Reply::Unset { tag })
    }

    fn index_of(&self, tag: &Tag) -> Option<usize> {
        self.all.iter().position(|one| one.registration.tag == *tag)
    }
}

fn not_registered(detail: &'static str) -> Refusal {
    Refusal::new(ErrorCode::NotRegistered, detail.into())
}
