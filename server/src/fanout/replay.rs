//! A registered connection with a replay under way.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::join::join;
use crate::clock::now_ms;
use crate::conn::connection::Connection;
use crate::conn::frame;
use crate::conn::outbox::Pushed;
use crate::entry::Target;
use crate::hub::Hub;
use crate::hub::delivery_queue::Delivery;
use crate::hub::history::{Handed, Pulled, Replay};
use crate::hub::tally::Tally;
use crate::id::{Address, Tag};
use crate::limits;
use crate::protocol;

/// How many bytes of live messages may wait behind a replay. Beyond this limit they are dropped,
/// and the replay is extended so that it reads them from the history.
const MAX_HELD: usize = limits::OUTBOX / 2;

/// The replay of one connection, and the live messages that follow it.
#[derive(Debug)]
pub(super) struct CatchingUp {
    pub(super) connection: Arc<Connection>,
    address: Option<Address>,
    replay: Replay,
    /// The live frames that wait behind the replay, in order. The `bool` tells whether the frame is
    /// a message.
    held: VecDeque<(Bytes, bool)>,
    held_bytes: usize,
    /// How many `live` events are written after the replay: one for each registration.
    pub(super) live_events: usize,
}

/// The result of writing a piece of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The replay has ended and the held frames are written, or the connection is closed.
    Last,
    /// The connection cannot take more for now.
    More,
    /// The backlog is too full for another piece.
    Stalled,
}

impl CatchingUp {
    pub(super) fn new(
        connection: Arc<Connection>,
        address: Option<Address>,
        replay: Replay,
    ) -> Self {
        Self { connection, address, replay, held: VecDeque::new(), held_bytes: 0, live_events: 1 }
    }

    pub(super) fn into_parts(self) -> (Arc<Connection>, Option<Address>) {
        (self.connection, self.address)
    }

    /// The intervals of seqs that were replayed so far: first of the ring, then of the inbox.
    pub(super) fn handed(&self) -> (Vec<Handed>, Vec<Handed>) {
        self.replay.handed()
    }

    /// The seqs after which the connection has got every message so far: first of the ring, then of
    /// the inbox.
    pub(super) fn handed_after(&self) -> (u64, u64) {
        self.replay.handed_after()
    }

    /// Holds live deliveries back until the replay has ended.
    pub(super) fn hold(&mut self, deliveries: &[Delivery]) {
        let number = self.connection.number;
        for delivery in deliveries {
            if !delivery.concerns(number, self.address) {
                continue;
            }
            self.held_bytes += delivery.frame.len();
            self.held.push_back((delivery.frame.clone(), delivery.kept));
            if delivery.kept {
                self.replay.note(delivery.seq, delivery.target != Target::Everyone);
            }
            if self.held_bytes > MAX_HELD {
                // The history has the messages, so they can be read later. Events are not in the
                // history, but they are short.
                self.held.retain(|(_, kept)| !kept);
                self.held_bytes = self.held.iter().map(|(frame, _)| frame.len()).sum();
                if self.held_bytes > MAX_HELD / 2 {
                    self.held = VecDeque::new();
                    self.held_bytes = 0;
                }
                self.replay.extend();
            }
        }
    }

    /// Writes pieces until the socket takes no more or the replay has ended.
    pub(super) fn hand_over(&mut self, hub: &Hub, tag: &Tag, tally: &mut Tally) -> Piece {
        let outbox = &self.connection.outbox;
        loop {
            // At most one piece waits in the outbox, counted over the replays of all tags of the
            // connection.
            if outbox.await_drained() {
                return Piece::More;
            }
            let share = outbox.share();
            if share < limits::REPLAY_LEAST {
                return Piece::Stalled;
            }
            let budget = limits::REPLAY_PIECE.min(share);
            let pulled = hub.pull(tag, &mut self.replay, budget, now_ms());
            let mut frames = frames_of(tag, &pulled);
            let replayed = pulled.frames.len() as u64;
            let (mut held, mut held_bytes) = (0, 0);
            // The last piece and the held frames together could overflow the outbox.
            let last = pulled.done && (frames.is_empty() || self.held.is_empty());
            if last {
                let live = frame::text_frame(&protocol::live(tag, self.replay.upto));
                frames.extend(std::iter::repeat_n(live, self.live_events));
                (held, held_bytes) = (self.held.len(), self.held_bytes);
                frames.extend(self.held.drain(..).map(|(frame, _)| frame));
            }
            let pushed = outbox.push_piece(&join(frames.into_iter()));
            if pushed.is_taken() {
                tally.replayed += replayed;
                tally.deliver(1, held, held_bytes);
            }
            // A closed connection needs no further piece; its unregistration is queued already.
            if last || matches!(pushed, Pushed::Closed | Pushed::Overflowed) {
                return Piece::Last;
            }
        }
    }
}

fn frames_of(tag: &Tag, pulled: &Pulled) -> Vec<Bytes> {
    let mut frames = Vec::with_capacity(pulled.frames.len() + 2);
    if pulled.gap {
        frames.push(frame::text_frame(&protocol::gap(tag)));
    }
    frames.extend(pulled.frames.iter().map(|(frame, seen)| match seen {
        true => frame::as_seen(frame),
        false => frame.clone(),
    }));
    frames
}
