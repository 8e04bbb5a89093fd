//! A registered connection that is still being handed what it has missed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{Delivery, join};
use crate::clock::now_ms;
use crate::conn::connection::Connection;
use crate::conn::frame;
use crate::conn::outbox::Pushed;
use crate::entry::Target;
use crate::hub::Hub;
use crate::hub::history::{Handed, Pulled, Replay};
use crate::hub::tally::Tally;
use crate::id::{Address, Tag};
use crate::limits;
use crate::protocol;

/// Bytes of live messages that wait behind a replay. Beyond, the replay goes on to them instead
/// and finds them among what is kept.
const HELD: usize = limits::OUTBOX / 2;

/// One connection's replay, and the messages that follow it.
#[derive(Debug)]
pub(super) struct CatchingUp {
    connection: Arc<Connection>,
    address: Option<Address>,
    replay: Replay,
    /// Newer than the replay's last, in order, and whether each is a message.
    held: VecDeque<(Bytes, bool)>,
    held_bytes: usize,
    /// How often its end is to be told: once for each registration.
    lives: usize,
}

/// What was handed over of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The end of it, and everything held behind it.
    Last,
    /// As much as the connection could take for now.
    More,
    /// So much waits for others that no more may wait for this one just now.
    Later,
}

impl CatchingUp {
    pub(super) fn new(
        connection: Arc<Connection>,
        address: Option<Address>,
        replay: Replay,
    ) -> Self {
        Self { connection, address, replay, held: VecDeque::new(), held_bytes: 0, lives: 1 }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn into_parts(self) -> (Arc<Connection>, Option<Address>) {
        (self.connection, self.address)
    }

    /// What it has been handed so far, of the ring and of the inbox.
    pub(super) fn handed(&self) -> (Vec<Handed>, Vec<Handed>) {
        self.replay.handed()
    }

    /// From where on it has been handed everything so far, likewise.
    pub(super) fn handed_after(&self) -> (u64, u64) {
        self.replay.handed_after()
    }

    /// Another registration of the same connection and ID goes on with this one's replay.
    pub(super) fn register_again(&mut self) {
        self.lives += 1;
    }

    /// Keeps for later what happens while the replay goes on.
    pub(super) fn hold(&mut self, deliveries: &[Delivery]) {
        let number = self.connection.number();
        for delivery in deliveries {
            if !delivery.concerns(number, self.address) {
                continue;
            }
            self.held_bytes += delivery.frame.len();
            self.held.push_back((delivery.frame.clone(), delivery.kept));
            if delivery.kept {
                self.replay.note(delivery.seq, delivery.target != Target::Everyone);
            }
            if self.held_bytes > HELD {
                // Events are kept nowhere else, and short.
                self.held.retain(|(_, kept)| !kept);
                self.held_bytes = self.held.iter().map(|(frame, _)| frame.len()).sum();
                if self.held_bytes > HELD / 2 {
                    self.held = VecDeque::new();
                    self.held_bytes = 0;
                }
                self.replay.extend();
            }
        }
    }

    /// Writes pieces until the socket takes no more or nothing is left.
    pub(super) fn hand_over(&mut self, hub: &Hub, tag: &Tag, tally: &mut Tally) -> Piece {
        let outbox = self.connection.outbox();
        loop {
            // One piece waits at a time, of all that the connection is being handed: other tags
            // may have theirs under way.
            if outbox.await_drained() {
                return Piece::More;
            }
            let share = outbox.share();
            if share < limits::REPLAY_LEAST {
                return Piece::Later;
            }
            let room = limits::REPLAY_PIECE.min(share);
            let pulled = hub.pull(tag, &mut self.replay, room, now_ms());
            let mut frames = frames_of(tag, &pulled);
            let replayed = pulled.frames.len() as u64;
            let (mut held, mut held_bytes) = (0, 0);
            // A last piece and much that follows it may be more than may wait at once.
            let last = pulled.done && (frames.is_empty() || self.held.is_empty());
            if last {
                let live = frame::text_frame(&protocol::live(tag, self.replay.upto()));
                frames.extend(std::iter::repeat_n(live, self.lives));
                (held, held_bytes) = (self.held.len(), self.held_bytes);
                frames.extend(self.held.drain(..).map(|(frame, _)| frame));
            }
            let pushed = outbox.push_piece(&join(frames.into_iter()));
            if pushed.is_taken() {
                tally.replayed += replayed;
                tally.deliver(1, held, held_bytes);
            }
            // Whoever is gone needs no more; the end of its registration follows.
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
