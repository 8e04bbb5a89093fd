//! One tag's listeners in one shard, and the work that waits for them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::catching_up::{CatchingUp, Piece};
use super::queue::Load;
use super::{Change, Tally, Work};
use crate::connection::Connection;
use crate::hub::{Dismissal, Hub};
use crate::id::{Address, Tag};
use crate::keep::Replay;
use crate::log::Target;
use crate::outbox::GOING_AWAY;

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
    pub(super) received: Option<Instant>,
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
    /// How many frames that are.
    frames: usize,
    /// When its entries were accepted.
    received: Vec<Instant>,
    /// Those who get direct messages in between; served when the run begins.
    served: HashSet<u64>,
    /// The next listener.
    place: usize,
    /// What it is of the queue.
    load: Load,
    /// Whether anybody has got anything of it.
    reached: bool,
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
    /// done with it.
    pub(super) fn serve(
        &mut self,
        hub: &Hub,
        changes: &mut Vec<Change>,
        tally: &mut Tally,
    ) -> Load {
        let mut done = Load::default();
        if self.run.is_none() {
            for _ in 0..SLICE {
                let Some(work) = self.backlog.pop_front() else { break };
                let load = Load::of(&work);
                if let Work::Deliver { seq, target, except, kept, frame, received, .. } = work {
                    let first = Delivery { seq, target, except, kept, frame, received };
                    self.begin_run(first, load, tally);
                    break;
                }
                done.add(load);
                match work {
                    // Begun above.
                    Work::Deliver { .. } => {}
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
                            tally,
                        );
                        changes.push(Change::Joined(Arc::clone(&connection)));
                        let late = CatchingUp::new(connection, registration.address, *replay);
                        if live {
                            self.join(late);
                        } else {
                            self.catch_up(late, hub, changes, tally);
                        }
                    }
                    Work::Resume { connection, .. } => {
                        if let Some(late) = self.catching_up.remove(&connection) {
                            tally.replays -= 1;
                            self.catch_up(late, hub, changes, tally);
                        }
                    }
                    Work::Unregister { connection, registration } => {
                        self.leave(connection, registration.address, changes, tally);
                    }
                    Work::Dissolve { .. } => self.dissolve(changes, tally),
                    Work::Dismiss { address, connection, why, .. } => {
                        let left = self.leave(connection, Some(address), changes, tally);
                        if let Some(dismissed) = left {
                            dismiss(&dismissed, why);
                        }
                    }
                }
            }
        }
        done.add(self.continue_run(tally));
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
        tally: &mut Tally,
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
        self.leave(number, before, changes, tally);
    }

    /// Hands over the next piece, and makes a listener of who has it all.
    fn catch_up(
        &mut self,
        mut late: CatchingUp,
        hub: &Hub,
        changes: &mut Vec<Change>,
        tally: &mut Tally,
    ) {
        let number = late.connection().number();
        match late.hand_over(hub, &self.tag, tally) {
            Piece::Last => self.join(late),
            piece @ (Piece::More | Piece::Later) => {
                changes.push(Change::CatchingUp { number, later: piece == Piece::Later });
                tally.replays += 1;
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
        tally: &mut Tally,
    ) -> Option<Arc<Connection>> {
        if let Some(late) = self.catching_up.remove(&number) {
            tally.replays -= 1;
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

    /// Sends everyone away to come anew.
    fn dissolve(&mut self, changes: &mut Vec<Change>, tally: &mut Tally) {
        tally.replays -= self.catching_up.len() as i64;
        let late = self.catching_up.drain().map(|(_, late)| late.into_parts().0);
        let listeners = self.listeners.drain(..).map(|listener| listener.connection);
        for connection in late.chain(listeners) {
            changes.push(Change::Left(connection.number()));
            connection.outbox().close(GOING_AWAY, "come back and resume");
        }
        self.places.clear();
        self.people.clear();
    }

    /// Takes the deliveries that stand together at the front of the queue, `first` and its `load`
    /// before them.
    fn begin_run(&mut self, first: Delivery, mut load: Load, tally: &mut Tally) {
        let mut bytes = first.frame.len();
        let mut deliveries = vec![first];
        while let Some(Work::Deliver { frame, .. }) = self.backlog.front()
            && deliveries.len() < RUN_FRAMES
            && bytes + frame.len() <= RUN_BYTES
        {
            bytes += frame.len();
            if let Some(work) = self.backlog.pop_front() {
                load.add(Load::of(&work));
                if let Work::Deliver { seq, target, except, kept, frame, received, .. } = work {
                    deliveries.push(Delivery { seq, target, except, kept, frame, received });
                }
            }
        }
        for late in self.catching_up.values_mut() {
            late.hold(&deliveries);
        }
        let before = tally.deliveries;
        let served = self.serve_people(&deliveries, tally);
        let reached = tally.deliveries > before;
        let received = deliveries.iter().filter_map(|delivery| delivery.received).collect();
        let everyones = deliveries.iter().filter(|other| other.target == Target::Everyone);
        let frames = everyones.clone().count();
        let joined = join(everyones.map(|delivery| delivery.frame.clone()));
        self.run = Some(Run { joined, frames, received, served, place: 0, load, reached });
    }

    /// Writes to those for whom there are direct messages everything that is for them, in order.
    fn serve_people(&self, deliveries: &[Delivery], tally: &mut Tally) -> HashSet<u64> {
        let mut served = HashSet::new();
        for delivery in deliveries {
            let Target::One(address) = delivery.target else { continue };
            for connection in self.people.get(&address).into_iter().flatten() {
                let number = connection.number();
                if served.insert(number) {
                    let theirs =
                        deliveries.iter().filter(|other| other.concerns(number, Some(address)));
                    let frames = theirs.clone().count();
                    let joined = join(theirs.map(|delivery| delivery.frame.clone()));
                    if !joined.is_empty() && connection.outbox().push(&joined).is_taken() {
                        tally.deliver(1, frames, joined.len());
                    }
                }
            }
        }
        served
    }

    /// Answers the load of a run that ends with it.
    fn continue_run(&mut self, tally: &mut Tally) -> Load {
        let Some(run) = &mut self.run else { return Load::default() };
        let all = if run.frames == 0 { 0 } else { self.listeners.len() };
        let end = all.min(run.place + SLICE);
        let mut taken = 0;
        for group in self.listeners[run.place..end].chunks(TOUCHED) {
            let touched = group.iter().filter(|listener| listener.connection.outbox().touch());
            std::hint::black_box(touched.count());
            for Listener { connection, .. } in group {
                if run.served.is_empty() || !run.served.contains(&connection.number()) {
                    taken += u64::from(connection.outbox().push(&run.joined).is_taken());
                }
            }
        }
        tally.deliver(taken, run.frames, run.joined.len());
        run.reached |= taken > 0;
        run.place = end;
        if end < all {
            return Load::default();
        }
        if run.reached {
            tally.reached_all(run.received.drain(..));
        }
        let load = run.load;
        self.run = None;
        load
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
