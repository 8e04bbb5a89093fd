//! One tag's listeners in one shard, and the work that waits for them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::catching_up::{CatchingUp, Piece};
use super::queue::Load;
use super::{Change, Work};
use crate::connection::Connection;
use crate::hub::{Dismissal, Hub};
use crate::id::{Address, Tag};
use crate::keep::Replay;
use crate::log::Target;

/// Connections served in one turn.
const SLICE: usize = 256;
/// Connections whose memory is asked for at once: as many loads as a core has in flight.
const TOUCHED: usize = 8;
/// Deliveries joined into one write. Well below the outbox's bound: a client that keeps up must
/// not overflow by one batch.
const RUN_FRAMES: usize = 64;
const RUN_BYTES: usize = 64 * 1024;

/// Close code of the oldest connection under an ID when there are too many.
pub const REPLACED: u16 = 4005;
/// Close code of the connections of an ID that was logged out.
pub const DROPPED: u16 = 4004;

/// The listeners of a tag and the tag's own queue, which is worked off strictly in order.
#[derive(Debug)]
pub(super) struct Audience {
    tag: Tag,
    listeners: Vec<Listener>,
    /// Where in `listeners` a connection stands.
    places: HashMap<u64, usize>,
    people: HashMap<Address, Vec<Arc<Connection>>>,
    /// Registered, but not among the listeners yet.
    catching_up: HashMap<u64, CatchingUp>,
    backlog: VecDeque<Work>,
    run: Option<Run>,
}

/// A connection that gets messages as they happen.
#[derive(Debug)]
struct Listener {
    connection: Arc<Connection>,
    /// It has been handed the ring above this, and of the inbox what is above the other.
    ring_after: u64,
    inbox_after: u64,
}

/// A message on its way to those whom it concerns.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) seq: u64,
    pub(super) target: Target,
    pub(super) except: Option<u64>,
    pub(super) kept: bool,
    pub(super) frame: Bytes,
}

impl Delivery {
    pub(super) fn concerns(&self, connection: u64, address: Option<Address>) -> bool {
        let meant = match self.target {
            Target::Everyone => true,
            Target::One(person) => address == Some(person),
        };
        meant && self.except != Some(connection)
    }
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
    pub(super) fn new(tag: Tag) -> Self {
        Self {
            tag,
            listeners: Vec::new(),
            places: HashMap::new(),
            people: HashMap::new(),
            catching_up: HashMap::new(),
            backlog: VecDeque::new(),
            run: None,
        }
    }

    pub(super) fn queue(&mut self, work: Work) {
        self.backlog.push_back(work);
    }

    pub(super) fn has_work(&self) -> bool {
        self.run.is_some() || !self.backlog.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.catching_up.is_empty() && !self.has_work()
    }

    /// One turn: a slice of a run, or up to a slice of registrations. Answers what of the queue is
    /// done with it; a run counts when it begins.
    pub(super) fn serve(&mut self, hub: &Hub, changes: &mut Vec<Change>) -> Load {
        let mut done = Load::default();
        if self.run.is_none() {
            for _ in 0..SLICE {
                let Some(work) = self.backlog.pop_front() else { break };
                done.add(&work);
                match work {
                    Work::Deliver { seq, target, except, kept, frame, .. } => {
                        self.begin_run(Delivery { seq, target, except, kept, frame }, &mut done);
                        break;
                    }
                    Work::Register { connection, goes_on: true, .. }
                        if self.catching_up.contains_key(&connection.number()) =>
                    {
                        // What is held behind its replay may be kept nowhere else.
                        if let Some(late) = self.catching_up.get_mut(&connection.number()) {
                            late.register_again();
                        }
                    }
                    Work::Register {
                        connection, registration, earlier, mut replay, live, ..
                    } => {
                        self.replace(
                            &connection,
                            registration.address,
                            earlier,
                            &mut replay,
                            changes,
                        );
                        changes.push(Change::Joined(Arc::clone(&connection)));
                        let late = CatchingUp::new(connection, registration.address, *replay);
                        if live {
                            self.join(late);
                        } else {
                            self.catch_up(late, hub, changes);
                        }
                    }
                    Work::Resume { connection, .. } => {
                        if let Some(late) = self.catching_up.remove(&connection) {
                            self.catch_up(late, hub, changes);
                        }
                    }
                    Work::Unregister { connection, registration } => {
                        self.leave(connection, registration.address, changes);
                    }
                    Work::Dismiss { address, connection, why, .. } => {
                        if let Some(dismissed) = self.leave(connection, Some(address), changes) {
                            dismiss(&dismissed, why);
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

    /// Ends an earlier registration of the same connection, whose messages are not handed over
    /// again.
    fn replace(
        &mut self,
        connection: &Connection,
        address: Option<Address>,
        earlier: Option<Option<Address>>,
        replay: &mut Replay,
        changes: &mut Vec<Change>,
    ) {
        let Some(before) = earlier else { return };
        let number = connection.number();
        let handed = match (self.catching_up.get(&number), self.places.get(&number)) {
            (Some(late), _) => Some(late.handed()),
            (None, Some(place)) => {
                let Listener { ring_after, inbox_after, .. } = self.listeners[*place];
                Some(((ring_after, replay.upto()), (inbox_after, replay.upto())))
            }
            (None, None) => None,
        };
        if let Some((ring, inbox)) = handed {
            // Another person's inbox is another one.
            let same = address.is_some() && before == address;
            replay.leave_out(ring, if same { inbox } else { (0, 0) });
        }
        self.leave(number, before, changes);
    }

    /// Hands over the next piece, and makes a listener of who has it all.
    fn catch_up(&mut self, mut late: CatchingUp, hub: &Hub, changes: &mut Vec<Change>) {
        let number = late.connection().number();
        match late.hand_over(hub, &self.tag) {
            Piece::Last => self.join(late),
            Piece::More => {
                changes.push(Change::CatchingUp(number));
                self.catching_up.insert(number, late);
            }
        }
    }

    /// From here on it gets messages as they happen.
    fn join(&mut self, late: CatchingUp) {
        let (ring, inbox) = late.handed();
        let (connection, address) = late.into_parts();
        self.places.insert(connection.number(), self.listeners.len());
        if let Some(address) = address {
            self.people.entry(address).or_default().push(Arc::clone(&connection));
        }
        let (ring_after, inbox_after) = (ring.0, inbox.0);
        self.listeners.push(Listener { connection, ring_after, inbox_after });
    }

    fn leave(
        &mut self,
        number: u64,
        address: Option<Address>,
        changes: &mut Vec<Change>,
    ) -> Option<Arc<Connection>> {
        if let Some(late) = self.catching_up.remove(&number) {
            changes.push(Change::Left(number));
            return Some(late.into_parts().0);
        }
        let place = self.places.remove(&number)?;
        let listener = self.listeners.swap_remove(place);
        if let Some(moved) = self.listeners.get(place) {
            self.places.insert(moved.connection.number(), place);
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
        Some(listener.connection)
    }

    /// Takes the deliveries that stand together at the front of the queue, `first` before them.
    fn begin_run(&mut self, first: Delivery, done: &mut Load) {
        let mut bytes = first.frame.len();
        let mut deliveries = vec![first];
        while let Some(Work::Deliver { frame, .. }) = self.backlog.front()
            && deliveries.len() < RUN_FRAMES
            && bytes + frame.len() <= RUN_BYTES
        {
            bytes += frame.len();
            if let Some(work) = self.backlog.pop_front() {
                done.add(&work);
                if let Work::Deliver { seq, target, except, kept, frame, .. } = work {
                    deliveries.push(Delivery { seq, target, except, kept, frame });
                }
            }
        }
        for late in self.catching_up.values_mut() {
            late.hold(&deliveries);
        }
        let served = self.serve_people(&deliveries);
        let broadcasts =
            |delivery: Delivery| (delivery.target == Target::Everyone).then_some(delivery.frame);
        let joined = join(deliveries.into_iter().filter_map(broadcasts));
        if !joined.is_empty() {
            self.run = Some(Run { joined, served, place: 0 });
        }
    }

    /// Writes to those for whom there are direct messages everything that is for them, in order.
    fn serve_people(&self, deliveries: &[Delivery]) -> HashSet<u64> {
        let mut served = HashSet::new();
        for delivery in deliveries {
            let Target::One(address) = delivery.target else { continue };
            for connection in self.people.get(&address).into_iter().flatten() {
                let number = connection.number();
                if served.insert(number) {
                    let theirs =
                        deliveries.iter().filter(|other| other.concerns(number, Some(address)));
                    let joined = join(theirs.map(|delivery| delivery.frame.clone()));
                    if !joined.is_empty() {
                        connection.outbox().push(&joined);
                    }
                }
            }
        }
        served
    }

    fn continue_run(&mut self) {
        let Some(run) = &mut self.run else { return };
        let end = self.listeners.len().min(run.place + SLICE);
        for group in self.listeners[run.place..end].chunks(TOUCHED) {
            let touched = group.iter().filter(|listener| listener.connection.outbox().touch());
            std::hint::black_box(touched.count());
            for Listener { connection, .. } in group {
                if run.served.is_empty() || !run.served.contains(&connection.number()) {
                    connection.outbox().push(&run.joined);
                }
            }
        }
        run.place = end;
        if end == self.listeners.len() {
            self.run = None;
        }
    }
}

fn dismiss(connection: &Connection, why: Dismissal) {
    match why {
        Dismissal::Replaced => {
            connection.outbox().close(REPLACED, "too many connections of this ID");
        }
        Dismissal::Dropped => connection.outbox().close(DROPPED, "logged out"),
    }
}

/// Several frames as one buffer; a single one as it is.
pub(super) fn join(mut frames: impl Iterator<Item = Bytes>) -> Bytes {
    let Some(first) = frames.next() else { return Bytes::new() };
    let Some(second) = frames.next() else { return first };
    let frames: Vec<Bytes> = [first, second].into_iter().chain(frames).collect();
    frames.concat().into()
}
