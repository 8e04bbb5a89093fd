//! The inboxes of one tag, which hold the unread messages of each person.
//!
//! The present time is taken from the entries, so this module reads no clock. All servers that
//! apply the same log keep the same messages.

use std::collections::{HashMap, VecDeque};

use crate::hub::history::HistoryBounds;
use crate::hub::history::ring::{Aged, Ring, StoredMessage};
use crate::id::Address;
use crate::protocol::Mark;

/// An estimate of the memory that an inbox takes besides its messages, in bytes.
const RECORD: usize = 200;

/// How many empty inboxes keep their own `evicted_through`, the highest seq that was lost. Beyond
/// this number, the lower half of these values is replaced by one common value. `History` treats
/// empty tags likewise.
const REMEMBERED: usize = 64 * 1024;

/// All inboxes of a tag.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    people: HashMap<Address, Ring>,
    /// The messages of all inboxes, oldest first. Messages that were read or evicted may still be
    /// in this list and are skipped.
    order: VecDeque<(u64, Address)>,
    messages: usize,
    /// The number of inboxes without messages.
    idle: usize,
    bytes: usize,
    /// The common `evicted_through` of all inboxes that have no record.
    forgotten_through: u64,
}

impl Inboxes {
    pub(crate) fn new(evicted_through: u64) -> Self {
        Self { forgotten_through: evicted_through, ..Self::default() }
    }

    /// Stores a message for one person. Returns whether the inbox holds it afterwards.
    pub(crate) fn push(
        &mut self,
        address: Address,
        message: StoredMessage,
        bounds: &HistoryBounds,
        now: u64,
    ) -> bool {
        let seq = message.seq;
        let forgotten = self.forgotten_through;
        self.people.entry(address).or_insert_with(|| {
            self.idle += 1;
            Ring::new(forgotten)
        });
        self.change(address, |inbox| inbox.push(message, bounds, now));
        self.drop_aged(bounds, now);
        let stored = self.contains(address, seq);
        if stored {
            self.order.push_back((seq, address));
        }
        if self.idle > REMEMBERED {
            self.forget();
        }
        stored
    }

    /// Removes the messages that the person has read.
    pub(crate) fn read(&mut self, address: Address, mark: &Mark) {
        match mark {
            Mark::UpTo(last) => self.change(address, |inbox| inbox.remove(|seq| seq <= *last)),
            Mark::Only(seqs) => {
                self.change(address, |inbox| inbox.remove(|seq| seqs.contains(&seq)));
            }
        }
    }

    /// Whether the inbox contains any message that the mark names.
    pub(crate) fn has(&self, address: Address, mark: &Mark) -> bool {
        self.people.get(&address).is_some_and(|inbox| match mark {
            Mark::UpTo(last) => inbox.oldest().is_some_and(|oldest| oldest <= *last),
            Mark::Only(seqs) => inbox.after(0).any(|message| seqs.contains(&message.seq)),
        })
    }

    /// Whether the inbox contains this message.
    pub(crate) fn contains(&self, address: Address, seq: u64) -> bool {
        self.after(address, seq.saturating_sub(1)).next().is_some_and(|first| first.seq == seq)
    }

    /// The messages of one person after `seq`, oldest first.
    pub(crate) fn after(&self, address: Address, seq: u64) -> impl Iterator<Item = &StoredMessage> {
        self.people.get(&address).into_iter().flat_map(move |inbox| inbox.after(seq))
    }

    /// The newest seq in an inbox.
    pub(crate) fn newest(&self, address: Address) -> Option<u64> {
        self.people.get(&address).and_then(Ring::newest)
    }

    /// The highest `evicted_through` of all inboxes.
    pub(crate) fn evicted_through(&self) -> u64 {
        self.people
            .values()
            .map(|inbox| inbox.evicted_through)
            .fold(self.forgotten_through, u64::max)
    }

    /// The messages of an inbox that are too old at the time `now`.
    pub(crate) fn aged(&self, address: Address, bounds: &HistoryBounds, now: u64) -> Aged {
        self.people
            .get(&address)
            .map_or(Aged { through: 0, evicted_through: self.forgotten_through }, |inbox| {
                inbox.aged(bounds, now)
            })
    }

    /// Evicts messages that are too old.
    pub(crate) fn drop_aged(&mut self, bounds: &HistoryBounds, now: u64) {
        while let Some((seq, address)) = self.oldest() {
            self.change(address, |inbox| inbox.drop_aged(bounds, now));
            if self.contains(address, seq) {
                return;
            }
        }
    }

    /// Evicts the oldest message of all inboxes. Returns whether there was a message.
    pub(crate) fn drop_oldest(&mut self, now: u64) -> bool {
        let Some((_, address)) = self.oldest() else { return false };
        self.change(address, |inbox| {
            inbox.drop_oldest(now);
        });
        true
    }

    /// The seq and the owner of the oldest message of all inboxes.
    pub(crate) fn oldest(&mut self) -> Option<(u64, Address)> {
        while let Some((seq, address)) = self.order.front().copied() {
            // An older message of this person would come earlier in `order`.
            if self.people.get(&address).and_then(Ring::oldest) == Some(seq) {
                return Some((seq, address));
            }
            self.order.pop_front();
        }
        self.order = VecDeque::new();
        None
    }

    /// Drops the records of half of the empty inboxes: those with the lowest `evicted_through`. The
    /// highest of the dropped values becomes the common value.
    pub(crate) fn forget(&mut self) {
        let idle = self.people.values().filter(|inbox| inbox.is_empty());
        let Some(middle) = median(idle.map(|inbox| inbox.evicted_through).collect()) else {
            return;
        };
        let through = self.forgotten_through.max(middle);
        self.forgotten_through = through;
        self.people.retain(|_, inbox| !inbox.is_empty() || inbox.evicted_through > through);
        self.people.shrink_to(2 * self.people.len());
        self.idle = self.people.values().filter(|inbox| inbox.is_empty()).count();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.people.len() * RECORD
    }

    /// The number of messages in all inboxes.
    pub(crate) fn len(&self) -> usize {
        self.messages
    }

    /// The number of inboxes that are not empty.
    pub(crate) fn owners(&self) -> usize {
        self.people.len() - self.idle
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Changes one inbox, and updates the sums over all inboxes.
    fn change(&mut self, address: Address, change: impl FnOnce(&mut Ring)) {
        let Some(inbox) = self.people.get_mut(&address) else { return };
        let (messages, bytes, was_empty) = (inbox.len(), inbox.bytes, inbox.is_empty());
        change(inbox);
        self.messages = self.messages + inbox.len() - messages;
        self.bytes = self.bytes + inbox.bytes - bytes;
        let is_empty = inbox.is_empty();
        if is_empty && inbox.evicted_through <= self.forgotten_through {
            self.people.remove(&address);
            self.idle -= usize::from(was_empty);
        } else {
            self.idle = self.idle + usize::from(is_empty) - usize::from(was_empty);
        }
        // `order` stays below twice the number of messages plus 1,024, even if people read much.
        if self.order.len() > 2 * self.messages + 1_024 {
            let people = &self.people;
            self.order.retain(|(seq, address)| {
                people.get(address).is_some_and(|inbox| {
                    inbox.after(seq.saturating_sub(1)).next().is_some_and(|first| first.seq == *seq)
                })
            });
            self.order.shrink_to(2 * self.order.len());
        }
    }
}

pub(super) fn median(mut seqs: Vec<u64>) -> Option<u64> {
    let middle = seqs.len() / 2;
    (!seqs.is_empty()).then(|| *seqs.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    const BOUNDS: HistoryBounds =
        HistoryBounds { count: 3, age: Duration::from_millis(100), bytes: 1 << 20 };

    fn person(number: u32) -> Address {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Address::from_bytes(bytes)
    }

    fn message(seq: u64, at: u64) -> StoredMessage {
        StoredMessage { seq, at, expires: None, frame: Bytes::from_static(b"frame") }
    }

    fn seqs(inboxes: &Inboxes, address: Address) -> Vec<u64> {
        inboxes.after(address, 0).map(|message| message.seq).collect()
    }

    fn evicted_through(inboxes: &Inboxes, address: Address) -> u64 {
        inboxes.aged(address, &BOUNDS, 0).evicted_through
    }

    #[test]
    fn each_person_has_bounds_of_their_own() {
        let mut inboxes = Inboxes::new(0);
        for seq in 1..=5 {
            assert!(inboxes.push(person(1), message(seq, 0), &BOUNDS, 0));
        }
        assert!(inboxes.push(person(2), message(6, 50), &BOUNDS, 50));
        assert_eq!(seqs(&inboxes, person(1)), [3, 4, 5]);
        assert_eq!(evicted_through(&inboxes, person(1)), 2);
        assert_eq!(evicted_through(&inboxes, person(2)), 0);
        inboxes.drop_aged(&BOUNDS, 100);
        assert_eq!((seqs(&inboxes, person(1)), seqs(&inboxes, person(2))), (vec![], vec![6]));
        assert_eq!(evicted_through(&inboxes, person(1)), 5);
    }

    #[test]
    fn what_is_read_is_gone_but_not_lost() {
        let mut inboxes = Inboxes::new(0);
        for seq in 1..=3 {
            inboxes.push(person(1), message(seq, 0), &BOUNDS, 0);
        }
        assert!(inboxes.has(person(1), &Mark::Only([2].into())));
        inboxes.read(person(1), &Mark::Only([2].into()));
        assert!(!inboxes.has(person(1), &Mark::Only([2].into())));
        assert_eq!(seqs(&inboxes, person(1)), [1, 3]);
        inboxes.read(person(1), &Mark::UpTo(1));
        inboxes.read(person(1), &Mark::UpTo(9));
        assert_eq!((evicted_through(&inboxes, person(1)), inboxes.bytes()), (0, 0));
        assert!(inboxes.is_empty() && !inboxes.drop_oldest(0));
    }

    #[test]
    fn nothing_is_kept_without_bounds_but_the_loss_is_known() {
        let none = HistoryBounds { count: 0, ..BOUNDS };
        let mut inboxes = Inboxes::new(0);
        assert!(!inboxes.push(person(1), message(7, 0), &none, 0));
        assert_eq!(
            (evicted_through(&inboxes, person(1)), evicted_through(&inboxes, person(2))),
            (7, 0)
        );
    }

    #[test]
    fn so_many_losses_are_remembered_at_most() {
        let none = HistoryBounds { count: 0, ..BOUNDS };
        let mut inboxes = Inboxes::new(0);
        for seq in 1..=200_000 {
            inboxes.push(person(u32::try_from(seq).unwrap()), message(seq, 0), &none, 0);
        }
        assert!(inboxes.people.len() <= REMEMBERED);
        assert_eq!(evicted_through(&inboxes, person(200_000)), 200_000);
        let told = evicted_through(&inboxes, person(1));
        assert!((1..200_000).contains(&told), "{told}");
    }

    #[test]
    fn reading_leaves_no_elements_behind() {
        let mut inboxes = Inboxes::new(0);
        for seq in 1..=100_000 {
            inboxes.push(person(1), message(seq, 0), &BOUNDS, 0);
            inboxes.read(person(1), &Mark::UpTo(seq));
        }
        assert!(inboxes.order.len() <= 1_026, "{}", inboxes.order.len());
    }
}
