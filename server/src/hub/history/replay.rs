//! What a client that comes back has missed, handed over piece by piece.

use bytes::Bytes;

use super::History;
use crate::hub::history::ring::StoredMessage;
use crate::id::{Address, Tag};

/// A replay under way: what is wanted, and how far it has come.
///
/// It holds no messages: they are pulled from what is kept as the client takes them, and may be
/// dropped before their turn, which the next pull tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    address: Option<Address>,
    /// The last seq that belongs to the replay.
    upto: u64,
    /// Everything wanted up to here has been handed over.
    done: u64,
    ring: Wanted,
    inbox: Wanted,
    /// Messages of the inbox up to here were seen by the client before.
    seen_through: u64,
}

/// What is wanted of the ring, or of the inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    /// What is above this.
    after: u64,
    /// Except what earlier registrations of the same connection were handed: intervals that neither
    /// overlap nor touch, in order.
    except: Vec<Handed>,
    /// The highest of it that was there when the replay began.
    last: u64,
    /// The loss that the client knows of.
    evicted_through: u64,
    /// The highest that is to follow the replay.
    noted: u64,
}

/// An interval of seqs that a connection has been handed: above the first, up to the second.
pub(crate) type Handed = (u64, u64);

/// The most such intervals that are remembered. A client that registers again and again while it takes
/// nothing, each time from further back, gets what lies furthest back twice.
const INTERVALS: usize = 8;

/// Where a client wants to go on from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// The cursor that it gave, if that belongs to this log.
    pub since: Option<u64>,
    /// How many of the last broadcasts it wants, without a cursor.
    pub last: Option<u64>,
    /// Whether it wants the whole inbox, whatever it has seen.
    pub unread: bool,
}

/// A replay that is about to begin.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Whether it is everything since the cursor, if there was one.
    pub recovered: Option<bool>,
    /// The highest seq that was dropped.
    pub evicted_through: u64,
    /// What is handed over.
    pub replay: Replay,
}

/// One piece of a replay.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// Encoded messages in the order of their seqs, and whether the client has seen each before.
    pub frames: Vec<(Bytes, bool)>,
    /// Something was dropped since the last piece.
    pub gap: bool,
    /// This was the last piece.
    pub done: bool,
}

impl Wanted {
    fn is(&self, seq: u64) -> bool {
        seq > self.after && !self.except.iter().any(|(from, to)| *from < seq && seq <= *to)
    }

    /// Notes a loss; answers whether it is news of something that was wanted and not handed over.
    fn loses(&mut self, evicted_through: u64, done: u64) -> bool {
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

    /// What has been handed over, where this has come to `done`.
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

    /// From where on everything up to `done` has been handed over.
    fn handed_after(&self, done: u64) -> u64 {
        let own = |(from, to): &Handed| *from <= self.after && self.after <= *to;
        self.handed(done).into_iter().find(own).map_or(self.after, |(from, _)| from)
    }
}

impl Replay {
    /// The last seq that belongs to it.
    #[must_use]
    pub(crate) fn upto(&self) -> u64 {
        self.upto
    }

    /// Whether there is nothing to hand over.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        let none = |wanted: &Wanted| wanted.last <= wanted.after;
        none(&self.ring) && none(&self.inbox)
    }

    /// Leaves out what earlier registrations of the same connection were handed.
    pub(crate) fn leave_out(&mut self, ring: Vec<Handed>, inbox: Vec<Handed>) {
        for (wanted, mut handed) in [(&mut self.ring, ring), (&mut self.inbox, inbox)] {
            handed.retain(|(from, to)| from < to);
            handed.drain(..handed.len().saturating_sub(INTERVALS));
            wanted.except = handed;
        }
    }

    /// What the connection has been handed so far, of the ring and of the inbox.
    #[must_use]
    pub(crate) fn handed(&self) -> (Vec<Handed>, Vec<Handed>) {
        (self.ring.handed(self.done), self.inbox.handed(self.done))
    }

    /// From where on it has been handed everything so far, of the ring and of the inbox.
    #[must_use]
    pub(crate) fn handed_after(&self) -> (u64, u64) {
        (self.ring.handed_after(self.done), self.inbox.handed_after(self.done))
    }

    /// Notes a message that is to follow the replay.
    pub(crate) fn note(&mut self, seq: u64, direct: bool) {
        let noted = if direct { &mut self.inbox.noted } else { &mut self.ring.noted };
        *noted = seq.max(*noted);
    }

    /// Goes on through everything noted: it could not wait for the end of the replay, which will
    /// find it among what is kept.
    pub(crate) fn extend(&mut self) {
        for wanted in [&mut self.ring, &mut self.inbox] {
            wanted.last = wanted.last.max(wanted.noted);
            self.upto = self.upto.max(wanted.noted);
        }
    }
}

impl History {
    /// Begins a replay of what is kept up to `head`. `clock` is the time of day, for what is too
    /// old.
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
        let keep = self.tags.get(tag);
        let ring_after = match from {
            Start { since: Some(since), .. } => since,
            // A count that does not fit wants everything.
            Start { last: Some(last), .. } if last > 0 => keep.map_or(0, |keep| {
                keep.ring.before_last(usize::try_from(last).unwrap_or(usize::MAX - 1))
            }),
            _ => head,
        };
        let inbox_after = if from.unread { 0 } else { from.since.unwrap_or(0) };
        let ring_last = keep.and_then(|keep| keep.ring.newest()).unwrap_or(0);
        let inbox_last = match (keep, address) {
            (Some(keep), Some(address)) => keep.inboxes.newest(address).unwrap_or(0),
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

    /// The next messages of a replay, up to `room` bytes of them but at least one. `clock` is the
    /// time of day, for what has expired or is too old.
    pub(crate) fn pull(&self, tag: &Tag, replay: &mut Replay, room: usize, clock: u64) -> Pulled {
        let mut pulled = Pulled::default();
        let now = self.now.max(clock);
        let ring_aged = self.ring_aged(tag, now);
        pulled.gap |= replay.ring.loses(ring_aged.evicted_through, replay.done);
        let mut inbox_aged = 0;
        if let Some(address) = replay.address {
            let aged = self.inbox_aged(tag, address, now);
            inbox_aged = aged.through;
            pulled.gap |= replay.inbox.loses(aged.evicted_through, replay.done);
        }
        let Some(keep) = self.tags.get(tag) else {
            replay.done = replay.upto;
            return Pulled { done: true, ..pulled };
        };
        let Replay { address, upto, done, ring, inbox, seen_through } = replay;
        let (upto, begin) = (*upto, *done);
        let due = |message: &&StoredMessage| message.is_due(now);
        let mut broadcasts = keep
            .ring
            .after(ring.after.max(begin).max(ring_aged.through))
            .take_while(|message| message.seq <= upto)
            .filter(|message| ring.is(message.seq))
            .filter(due)
            .peekable();
        let mut directs = address
            .iter()
            .flat_map(|address| {
                keep.inboxes.after(*address, inbox.after.max(begin).max(inbox_aged))
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
            if bytes >= room {
                return pulled;
            }
        }
    }
}
