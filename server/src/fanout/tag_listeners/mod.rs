//! The listeners of one tag in one shard, and the work queued for them.

mod run;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use run::Run;

use crate::conn::connection::Connection;
use crate::conn::outbox::GOING_AWAY;
use crate::fanout::Change;
use crate::fanout::replay::{CatchingUp, Piece};
use crate::hub::delivery_queue::{Load, Work};
use crate::hub::history::Replay;
use crate::hub::tally::Tally;
use crate::hub::{Dismissal, Hub};
use crate::id::{Address, Tag};

/// How many connections one turn serves, so that other tags need not wait for all of them.
const SLICE: usize = 256;

/// The WebSocket close code for the oldest connection under an ID when the ID has too many.
pub(crate) const REPLACED: u16 = 4005;
/// The WebSocket close code for the connections of an ID that was logged out.
pub(crate) const DROPPED: u16 = 4004;

/// The listeners of a tag, and the tag's own queue of work, which is served strictly in order.
#[derive(Debug)]
pub(in crate::fanout) struct TagListeners {
    tag: Tag,
    listeners: Vec<Listener>,
    /// The index in `listeners` of each connection, by its number.
    indexes: HashMap<u64, usize>,
    people: HashMap<Address, Vec<Arc<Connection>>>,
    /// Registered connections whose replay is under way. They are not in `listeners` yet.
    catching_up: HashMap<u64, CatchingUp>,
    backlog: VecDeque<Work>,
    run: Option<Run>,
}

/// A connection that gets each message when it is published.
#[derive(Debug)]
struct Listener {
    connection: Arc<Connection>,
    /// The connection got every message of the ring after `ring_after`, and every message of its
    /// inbox after `inbox_after`.
    ring_after: u64,
    inbox_after: u64,
}

impl TagListeners {
    pub(in crate::fanout) fn new(tag: Tag) -> Self {
        Self {
            tag,
            listeners: Vec::new(),
            indexes: HashMap::new(),
            people: HashMap::new(),
            catching_up: HashMap::new(),
            backlog: VecDeque::new(),
            run: None,
        }
    }

    pub(in crate::fanout) fn queue(&mut self, work: Work) {
        self.backlog.push_back(work);
    }

    pub(in crate::fanout) fn has_work(&self) -> bool {
        self.run.is_some() || !self.backlog.is_empty()
    }

    pub(in crate::fanout) fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.catching_up.is_empty() && !self.has_work()
    }

    /// Serves one turn: a slice of a run, or a few registrations. Returns the work that is done.
    pub(in crate::fanout) fn serve(
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
                if let Work::Deliver { delivery, .. } = work {
                    self.begin_run(delivery, load, tally);
                    break;
                }
                done.add(load);
                match work {
                    // Deliveries were handled above.
                    Work::Deliver { .. } => {}
                    Work::Register { connection, continues_replay: true, .. }
                        if self.catching_up.contains_key(&connection.number) =>
                    {
                        // The new registration shares the replay under way, because the events that
                        // the replay holds are stored nowhere else.
                        if let Some(late) = self.catching_up.get_mut(&connection.number) {
                            late.live_events += 1;
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
            // This frees the memory that the queue took for a burst.
            self.backlog.shrink_to(SLICE);
        }
        done
    }

    /// Ends the earlier registration of the connection. Messages that the connection got under it
    /// are left out of `replay`.
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
        let number = connection.number;
        let handed = match (self.catching_up.get(&number), self.indexes.get(&number)) {
            (Some(late), _) => Some(late.handed()),
            (None, Some(index)) => {
                let Listener { ring_after, inbox_after, .. } = self.listeners[*index];
                let through = |after| vec![(after, replay.upto)];
                Some((through(ring_after), through(inbox_after)))
            }
            (None, None) => None,
        };
        if let Some((ring, inbox)) = handed {
            // If the ID has changed, the connection got the messages of another inbox, so no
            // message of the present inbox is left out.
            let same = address.is_some() && before == address;
            replay.leave_out(ring, if same { inbox } else { Vec::new() });
        }
        self.leave(number, before, changes, tally);
    }

    /// Writes the next pieces of a replay. When the replay has ended, the connection becomes a
    /// listener.
    fn catch_up(
        &mut self,
        mut late: CatchingUp,
        hub: &Hub,
        changes: &mut Vec<Change>,
        tally: &mut Tally,
    ) {
        let number = late.connection.number;
        match late.hand_over(hub, &self.tag, tally) {
            Piece::Last => self.join(late),
            piece @ (Piece::More | Piece::Stalled) => {
                changes.push(Change::CatchingUp { number, stalled: piece == Piece::Stalled });
                tally.replays += 1;
                self.catching_up.insert(number, late);
            }
        }
    }

    /// Makes the connection a listener, which gets each message when it is published.
    fn join(&mut self, late: CatchingUp) {
        let (ring_after, inbox_after) = late.handed_after();
        let (connection, address) = late.into_parts();
        self.indexes.insert(connection.number, self.listeners.len());
        if let Some(address) = address {
            self.people.entry(address).or_default().push(Arc::clone(&connection));
        }
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
        let index = self.indexes.remove(&number)?;
        let listener = self.listeners.swap_remove(index);
        if let Some(moved) = self.listeners.get(index) {
            self.indexes.insert(moved.connection.number, index);
        }
        if let Some(address) = address
            && let Some(person) = self.people.get_mut(&address)
        {
            person.retain(|connection| connection.number != number);
            if person.is_empty() {
                self.people.remove(&address);
            }
        }
        changes.push(Change::Left(number));
        Some(listener.connection)
    }

    /// Closes all connections of the tag, so that the clients reconnect.
    fn dissolve(&mut self, changes: &mut Vec<Change>, tally: &mut Tally) {
        tally.replays -= self.catching_up.len() as i64;
        let late = self.catching_up.drain().map(|(_, late)| late.into_parts().0);
        let listeners = self.listeners.drain(..).map(|listener| listener.connection);
        for connection in late.chain(listeners) {
            changes.push(Change::Left(connection.number));
            let reason = "this server missed entries of the log; reconnect and resume";
            connection.outbox.close(GOING_AWAY, reason);
        }
        self.indexes.clear();
        self.people.clear();
    }
}

fn dismiss(connection: &Connection, why: Dismissal) {
    match why {
        Dismissal::Replaced => {
            connection.outbox.close(REPLACED, "too many connections under this ID");
        }
        Dismissal::Dropped => connection.outbox.close(DROPPED, "logged out"),
    }
}
