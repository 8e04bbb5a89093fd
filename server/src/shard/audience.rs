//! One tag's listeners in one shard, and the work that waits for them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::queue::Load;
use super::{Change, REPLACED, Work};
use crate::connection::Connection;
use crate::frame;
use crate::id::Address;
use crate::log::Target;
use crate::protocol;

/// Connections served in one turn.
const SLICE: usize = 256;
/// Deliveries joined into one write. Well below the outbox's bound: a client that keeps up must
/// not overflow by one batch.
const RUN_FRAMES: usize = 64;
const RUN_BYTES: usize = 64 * 1024;

/// The listeners of a tag and the tag's own queue, which is worked off strictly in order.
#[derive(Debug, Default)]
pub(super) struct Audience {
    listeners: Vec<Arc<Connection>>,
    /// Where in `listeners` a connection stands.
    places: HashMap<u64, usize>,
    people: HashMap<Address, Vec<Arc<Connection>>>,
    backlog: VecDeque<Work>,
    run: Option<Run>,
}

/// Deliveries that stood together in the queue, being written to one listener after the other.
/// Nobody joins or leaves while a run is under way, so places stay what they are.
#[derive(Debug)]
struct Run {
    /// What everyone gets, in one buffer.
    joined: Bytes,
    /// Those who get direct messages in between; served when the run begins.
    served: HashSet<u64>,
    /// The next listener.
    place: usize,
}

impl Audience {
    pub(super) fn queue(&mut self, work: Work) {
        self.backlog.push_back(work);
    }

    pub(super) fn has_work(&self) -> bool {
        self.run.is_some() || !self.backlog.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && !self.has_work()
    }

    /// One turn: a slice of a run, or up to a slice of registrations. Answers what of the queue is
    /// done with it; a run counts when it begins.
    pub(super) fn serve(&mut self, changes: &mut Vec<Change>) -> Load {
        let mut done = Load::default();
        if self.run.is_none() {
            for _ in 0..SLICE {
                let Some(work) = self.backlog.pop_front() else { break };
                done.add(&work);
                match work {
                    Work::Deliver { target, frame, .. } => {
                        self.begin_run(target, frame, &mut done);
                        break;
                    }
                    Work::Register { connection, registration, head } => {
                        connection
                            .outbox()
                            .push(&frame::text_frame(&protocol::live(&registration.tag, head)));
                        self.join(&connection, registration.address);
                        changes.push(Change::Joined(connection));
                    }
                    Work::Unregister { connection, registration } => {
                        self.leave(connection, registration.address, changes);
                    }
                    Work::Replace { address, connection, .. } => {
                        if let Some(listener) = self.leave(connection, Some(address), changes) {
                            listener.outbox().close(REPLACED, "too many connections of this ID");
                        }
                    }
                }
            }
        }
        self.continue_run();
        if self.backlog.is_empty() {
            // A burst's memory goes back.
            self.backlog.shrink_to(SLICE);
        }
        done
    }

    fn join(&mut self, connection: &Arc<Connection>, address: Option<Address>) {
        self.places.insert(connection.number(), self.listeners.len());
        self.listeners.push(Arc::clone(connection));
        if let Some(address) = address {
            self.people.entry(address).or_default().push(Arc::clone(connection));
        }
    }

    fn leave(
        &mut self,
        number: u64,
        address: Option<Address>,
        changes: &mut Vec<Change>,
    ) -> Option<Arc<Connection>> {
        let place = self.places.remove(&number)?;
        let listener = self.listeners.swap_remove(place);
        if let Some(moved) = self.listeners.get(place) {
            self.places.insert(moved.number(), place);
        }
        if let Some(address) = address
            && let Some(person) = self.people.get_mut(&address)
        {
            person.retain(|connection| connection.number() != number);
            if person.is_empty() {
                self.people.remove(&address);
            }
        }
        changes.push(Change::Left(number));
        Some(listener)
    }

    /// Takes the deliveries that stand together at the front of the queue, `first` before them.
    fn begin_run(&mut self, first: Target, frame: Bytes, done: &mut Load) {
        let mut bytes = frame.len();
        let mut deliveries = vec![(first, frame)];
        while let Some(Work::Deliver { frame, .. }) = self.backlog.front()
            && deliveries.len() < RUN_FRAMES
            && bytes + frame.len() <= RUN_BYTES
        {
            bytes += frame.len();
            if let Some(work) = self.backlog.pop_front() {
                done.add(&work);
                if let Work::Deliver { target, frame, .. } = work {
                    deliveries.push((target, frame));
                }
            }
        }
        let served = self.serve_people(&deliveries);
        let broadcasts = |(target, frame)| (target == Target::Everyone).then_some(frame);
        let joined = join(deliveries.into_iter().filter_map(broadcasts));
        if !joined.is_empty() {
            self.run = Some(Run { joined, served, place: 0 });
        }
    }

    /// Writes to those for whom there are direct messages everything that is for them, in order.
    fn serve_people(&self, deliveries: &[(Target, Bytes)]) -> HashSet<u64> {
        let mut served = HashSet::new();
        for (target, _) in deliveries {
            let Target::One(address) = *target else { continue };
            for connection in self.people.get(&address).into_iter().flatten() {
                if served.insert(connection.number()) {
                    let theirs = |target| {
                        matches!(target, Target::Everyone) || target == Target::One(address)
                    };
                    let frames = deliveries.iter().filter(|(target, _)| theirs(*target));
                    connection.outbox().push(&join(frames.map(|(_, frame)| frame.clone())));
                }
            }
        }
        served
    }

    fn continue_run(&mut self) {
        let Some(run) = &mut self.run else { return };
        let end = self.listeners.len().min(run.place + SLICE);
        for listener in &self.listeners[run.place..end] {
            if run.served.is_empty() || !run.served.contains(&listener.number()) {
                listener.outbox().push(&run.joined);
            }
        }
        run.place = end;
        if end == self.listeners.len() {
            self.run = None;
        }
    }
}

/// Several frames as one buffer; a single one as it is.
fn join(mut frames: impl Iterator<Item = Bytes>) -> Bytes {
    let Some(first) = frames.next() else { return Bytes::new() };
    let Some(second) = frames.next() else { return first };
    let frames: Vec<Bytes> = [first, second].into_iter().chain(frames).collect();
    frames.concat().into()
}
