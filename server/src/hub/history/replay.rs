//! Replays the messages that a client has missed, piece by piece.

use bytes::Bytes;

use super::History;
use crate::hub::history::ring::StoredMessage;
use crate::id::{Address, Tag};

/// A replay under way: the messages that it covers, and the point that it has reached.
///
/// A replay holds no messages. It takes them from the history piece by piece, as fast as the client
/// reads. If a message is evicted before its turn, the next piece reports a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    address: Option<Address>,
    /// The last seq that belongs to the replay.
    pub(crate) upto: u64,
    /// The replay has delivered every wanted message up to this seq.
    done: u64,
    ring: Wanted,
    inbox: Wanted,
    /// Before the replay, the client had already seen the messages of its inbox up to this seq.
    seen_through: u64,
}

/// The messages of the ring, or of the inbox, that a replay covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    /// The replay covers the messages after this seq.
    after: u64,
    /// The replay leaves out these intervals, which earlier registrations of the connection have
    /// delivered. They are in order and neither overlap nor touch.
    except: Vec<Handed>,
    /// The seq of the newest message when the replay began.
    last: u64,
    /// The value of `evicted_through` that was last reported to the client.
    evicted_through: u64,
    /// The seq of the newest live message that waits behind the replay.
    noted: u64,
}

/// An interval of seqs that a connection has got: after the first number, up to the second.
pub(crate) type Handed = (u64, u64);

/// How many intervals are remembered. A client could exceed this number by registering often, each
/// time with an older cursor, while it reads nothing. It then gets the oldest messages twice.
const INTERVALS: usize = 8;

/// The point at which a replay starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// The seq of the client's cursor, if the cursor belongs to this log.
    pub since: Option<u64>,
    /// How many of the last broadcasts to replay if the client has no cursor.
    pub last: Option<u64>,
    /// Whether to replay the whole inbox, whatever the cursor is.
    pub unread: bool,
}

/// A new replay.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Whether the replay covers all messages since the cursor; `None` without a cursor.
    pub recovered: Option<bool>,
    /// The highest seq that was evicted from the ring or the inbox.
    pub evicted_through: u64,
    pub replay: Replay,
}

/// One piece of a replay.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// The encoded messages in the order of their seqs. The `bool` tells whether the client has
    /// seen the message before.
    pub frames: Vec<(Bytes, bool)>,
    /// Whether wanted messages were evicted since the last piece.
    pub gap: bool,
    /// Whether this is the last piece.
    pub done: bool,
}

impl Wanted {
    fn is(&self, seq: u64) -> bool {
        seq > self.after && !self.except.iter().any(|(from, to)| *from < seq && seq <= *to)
    }

    /// Notes that messages through `evicted_through` were evicted. Returns whether the client must
    /// be told: a wanted message may be lost, and this was not reported yet.
    fn note_evicted(&mut self, evicted_through: u64, done: u64) -> bool {
        let mut from = done.max(self.after);
        for (begin, end) in &self.except {
            if *begin <= from {
                from = from.max(*end);
            }
        }
        let news =
            evicted_through > self.evicted_through && evicted_through > from && self.last > from;
        if news {
            self.evicted_through = evicted_through;
        }
        news
    }

    /// The intervals that the client has got when the replay is at `done`.
    fn handed(&self, done: u64) -> Vec<Handed> {
        let mut all = self.except.clone();
        all.push((self.after, done.max(self.after)));
        all.sort_unstable();
        let mut handed: Vec<Handed> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match handed.last_mut() {
                Some(before) if from <= before.1 => before.1 = before.1.max(to),
                _ => handed.push((from, to)),
            }
        }
        handed
    }

    /// The seq after which the client has got every message up to `done`.
    fn handed_after(&self, done: u64) -> u64 {
        let own = |(from, to): &Handed| *from <= self.after && self.after <= *to;
        self.handed(done).into_iter().find(own).map_or(self.after, |(from, _)| from)
    }
}

impl Replay {
    pub(crate) fn is_empty(&self) -> bool {
        let none = |wanted: &Wanted| wanted.last <= wanted.after;
        none(&self.ring) && none(&self.inbox)
    }

    /// Leaves out the intervals that earlier registrations of the connection have delivered.
    pub(crate) fn leave_out(&mut self, ring: Vec<Handed>, inbox: Vec<Handed>) {
        for (wanted, mut handed) in [(&mut self.ring, ring), (&mut self.inbox, inbox)] {
            handed.retain(|(from, to)| from < to);
            handed.drain(..handed.len().saturating_sub(INTERVALS));
            wanted.except = handed;
        }
    }

    /// The intervals of the ring and of the inbox that the connection has got so far.
    pub(crate) fn handed(&self) -> (Vec<Handed>, Vec<Handed>) {
        (self.ring.handed(self.done), self.inbox.handed(self.done))
    }

    /// The seqs after which the connection has got every message so far: first of the ring, then of
    /// the inbox.
    pub(crate) fn handed_after(&self) -> (u64, u64) {
        (self.ring.handed_after(self.done), self.inbox.handed_after(self.done))
    }

    /// Notes a live message that waits behind the replay.
    pub(crate) fn note(&mut self, seq: u64, direct: bool) {
        let noted = if direct { &mut self.inbox.noted } else { &mut self.ring.noted };
        *noted = seq.max(*noted);
    }

    /// Extends the replay over all noted messages. The caller has dropped them from memory, so the
    /// replay reads them from the history.
    pub(crate) fn extend(&mut self) {
        for wanted in [&mut self.ring, &mut self.inbox] {
            wanted.last = wanted.last.max(wanted.noted);
            self.upto = self.upto.max(wanted.noted);
        }
    }
}

impl History {
    /// Begins a replay up to `head`. `clock` is the system time, which decides what is too old.
    pub(crate) fn begin(
        &self,
        tag: &Tag,
        address: Option<Address>,
        head: u64,
        from: Start,
        clock: u64,
    ) -> Begun {
        let now = self.now.max(clock);
        let ring_lost = self.ring_aged(tag, now).evicted_through;
        let inbox_lost =
            address.map_or(0, |address| self.inbox_aged(tag, address, now).evicted_through);
        let evicted_through = ring_lost.max(inbox_lost);
        let recovered = from.since.map(|since| evicted_through <= since);
        let tag_history = self.tags.get(tag);
        let ring_after = match from {
            Start { since: Some(since), .. } => since,
            // A count that does not fit in `usize` means all messages.
            Start { last: Some(last), .. } if last > 0 => tag_history.map_or(0, |tag_history| {
                tag_history.ring.before_last(usize::try_from(last).unwrap_or(usize::MAX - 1))
            }),
            _ => head,
        };
        let inbox_after = if from.unread { 0 } else { from.since.unwrap_or(0) };
        let ring_last = tag_history.and_then(|tag_history| tag_history.ring.newest()).unwrap_or(0);
        let inbox_last = match (tag_history, address) {
            (Some(tag_history), Some(address)) => tag_history.inboxes.newest(address).unwrap_or(0),
            _ => 0,
        };
        let wanted = |after, last, evicted_through| Wanted {
            after,
            except: Vec::new(),
            last,
            evicted_through,
            noted: 0,
        };
        let replay = Replay {
            address,
            upto: head,
            done: 0,
            ring: wanted(ring_after, ring_last, ring_lost),
            inbox: wanted(inbox_after, inbox_last, inbox_lost),
            seen_through: from.since.unwrap_or(0),
        };
        Begun { recovered, evicted_through, replay }
    }

    /// Takes the next messages of a replay: up to `budget` bytes, but at least one message. `clock`
    /// is the system time, which decides what has expired or is too old.
    pub(crate) fn pull(&self, tag: &Tag, replay: &mut Replay, budget: usize, clock: u64) -> Pulled {
        let mut pulled = Pulled::default();
        let now = self.now.max(clock);
        let ring_aged = self.ring_aged(tag, now);
        pulled.gap |= replay.ring.note_evicted(ring_aged.evicted_through, replay.done);
        let mut inbox_aged = 0;
        if let Some(address) = replay.address {
            let aged = self.inbox_aged(tag, address, now);
            inbox_aged = aged.through;
            pulled.gap |= replay.inbox.note_evicted(aged.evicted_through, replay.done);
        }
        let Some(tag_history) = self.tags.get(tag) else {
            replay.done = replay.upto;
            return Pulled { done: true, ..pulled };
        };
        let Replay { address, upto, done, ring, inbox, seen_through } = replay;
        let (upto, begin) = (*upto, *done);
        let due = |message: &&StoredMessage| message.is_due(now);
        let mut broadcasts = tag_history
            .ring
            .after(ring.after.max(begin).max(ring_aged.through))
            .take_while(|message| message.seq <= upto)
            .filter(|message| ring.is(message.seq))
            .filter(due)
            .peekable();
        let mut directs = address
            .iter()
            .flat_map(|address| {
                tag_history.inboxes.after(*address, inbox.after.max(begin).max(inbox_aged))
            })
            .take_while(|message| message.seq <= upto)
            .filter(|message| inbox.is(message.seq))
            .filter(due)
            .peekable();
        let mut bytes = 0;
        loop {
            let direct = match (broadcasts.peek(), directs.peek()) {
                (Some(broadcast), Some(direct)) => direct.seq < broadcast.seq,
                (broadcast, _) => broadcast.is_none(),
            };
            let message = if direct { directs.next() } else { broadcasts.next() };
            let Some(message) = message else {
                *done = upto;
                pulled.done = true;
                return pulled;
            };
            bytes += message.frame.len();
            let seen = direct && message.seq <= *seen_through;
            pulled.frames.push((message.frame.clone(), seen));
            *done = message.seq;
            if bytes >= budget {
                return pulled;
            }
        }
    }
}
