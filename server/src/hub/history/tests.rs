//! Compares the history with a naive model, which stores every entry and computes everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const RING: HistoryBounds =
    HistoryBounds { count: 4, age: Duration::from_millis(50), bytes: 4_000 };
const INBOX: HistoryBounds =
    HistoryBounds { count: 3, age: Duration::from_millis(80), bytes: 2_000 };
const TAGS: [&str; 2] = ["kept", "open"];

fn tag(index: usize) -> Tag {
    Tag::parse(TAGS[index]).unwrap()
}

fn person(number: u8) -> Address {
    Address::from_bytes([number; 32])
}

/// The tag `kept` has inboxes, the tag `open` has none.
fn settings(max_memory: usize) -> Settings {
    let bounds = TagBounds { ring: RING, inbox: INBOX };
    let mut settings = Settings::new(max_memory, bounds.without_inbox());
    settings.set(tag(0), bounds);
    settings
}

#[derive(Debug, Clone)]
enum Step {
    Broadcast {
        tag: usize,
        size: usize,
        ttl: Option<u64>,
    },
    Direct {
        tag: usize,
        person: u8,
        size: usize,
        ttl: Option<u64>,
    },
    Read {
        person: u8,
        back: u64,
        only: bool,
    },
    Wait(u64),
    /// A client resumes with a cursor that is this many entries behind the head.
    Resume {
        tag: usize,
        person: Option<u8>,
        behind: u64,
        unread: bool,
        budget: usize,
    },
    /// A client registers without a cursor.
    Arrive {
        tag: usize,
        person: Option<u8>,
        last: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = || prop_oneof![4 => Just(None), 1 => (1..60_u64).prop_map(Some)];
    let who = || prop_oneof![1 => Just(None), 3 => (0..3_u8).prop_map(Some)];
    prop_oneof![
        4 => (0..2_usize, 1..900_usize, ttl())
            .prop_map(|(tag, size, ttl)| Step::Broadcast { tag, size, ttl }),
        6 => (0..2_usize, 0..3_u8, 1..900_usize, ttl())
            .prop_map(|(tag, person, size, ttl)| Step::Direct { tag, person, size, ttl }),
        2 => (0..3_u8, 0..6_u64, any::<bool>())
            .prop_map(|(person, back, only)| Step::Read { person, back, only }),
        2 => (1..40_u64).prop_map(Step::Wait),
        3 => (0..2_usize, who(), 0..12_u64, any::<bool>(), 1..1_500_usize)
            .prop_map(|(tag, person, behind, unread, budget)| {
                Step::Resume { tag, person, behind, unread, budget }
            }),
        1 => (0..2_usize, who(), 0..6_u64)
            .prop_map(|(tag, person, last)| Step::Arrive { tag, person, last }),
    ]
}

/// The naive model of a ring or an inbox. `had` has every message that was ever pushed.
#[derive(Debug, Default)]
struct Shelf {
    had: Vec<StoredMessage>,
    kept: BTreeSet<u64>,
    evicted_through: u64,
}

impl Shelf {
    fn push(&mut self, message: StoredMessage, bounds: &HistoryBounds, now: u64) {
        self.trim(bounds, now);
        self.kept.insert(message.seq);
        self.had.push(message);
        self.trim(bounds, now);
    }

    fn of(&self, seq: u64) -> &StoredMessage {
        self.had.iter().find(|message| message.seq == seq).unwrap()
    }

    fn trim(&mut self, bounds: &HistoryBounds, now: u64) {
        if let Some(newest) = self.had.last()
            && self.kept.contains(&newest.seq)
            && (bounds.count == 0 || newest.size() > bounds.bytes)
        {
            let newest = newest.seq;
            self.reset_to(newest, now);
        }
        loop {
            let size: usize = self.kept.iter().map(|seq| self.of(*seq).size()).sum();
            let Some(oldest) = self.kept.first().copied() else { return };
            let aged = self.of(oldest).at + bounds.age.as_millis() as u64 <= now;
            if self.kept.len() <= bounds.count && size <= bounds.bytes && !aged {
                return;
            }
            let age = bounds.age.as_millis() as u64;
            self.reset_to(oldest, if aged { self.of(oldest).at + age } else { now });
        }
    }

    fn reset_to(&mut self, seq: u64, now: u64) {
        self.kept.remove(&seq);
        if self.of(seq).is_due(now) {
            self.evicted_through = self.evicted_through.max(seq);
        }
    }

    fn due_after(&self, seq: u64, now: u64) -> Vec<u64> {
        let due = |seq: &u64| self.of(*seq).is_due(now);
        self.kept.iter().copied().filter(|kept| *kept > seq).filter(due).collect()
    }
}

#[derive(Debug, Default)]
struct Model {
    rings: BTreeMap<usize, Shelf>,
    inboxes: BTreeMap<(usize, u8), Shelf>,
}

fn inbox_bounds(tag: usize) -> HistoryBounds {
    if tag == 0 { INBOX } else { HistoryBounds { count: 0, ..INBOX } }
}

impl Model {
    fn age(&mut self, tag: usize, now: u64) {
        self.rings.entry(tag).or_default().trim(&RING, now);
        for ((of, _), inbox) in &mut self.inboxes {
            if *of == tag {
                inbox.trim(&inbox_bounds(tag), now);
            }
        }
    }
}

fn pull_all(history: &History, tag: &Tag, replay: &mut Replay, budget: usize) -> Vec<(u64, bool)> {
    let mut seqs = Vec::new();
    loop {
        let pulled = history.pull(tag, replay, budget, 0);
        assert!(!pulled.gap, "nothing was dropped meanwhile");
        assert!(pulled.done || !pulled.frames.is_empty(), "progress");
        seqs.extend(
            pulled
                .frames
                .iter()
                .map(|(frame, seen)| (u64::from_be_bytes(frame[..8].try_into().unwrap()), *seen)),
        );
        if pulled.done {
            return seqs;
        }
    }
}

/// A frame that begins with its seq in eight bytes.
fn frame(seq: u64, size: usize) -> Bytes {
    let mut frame = seq.to_be_bytes().to_vec();
    frame.resize(8 + size, b'x');
    frame.into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn keeps_hands_over_and_tells_what_the_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut history = History::new(settings(1 << 30), 0);
        let mut model = Model::default();
        let (mut seq, mut now) = (0, 1_000);
        for step in steps {
            prop_assert_eq!(history.held, history.recounted());
            match step {
                Step::Wait(ms) => now += ms,
                Step::Broadcast { tag: at, size, ttl } => {
                    seq += 1;
                    history.advance(now);
                    let expires = ttl.map(|ttl| now + ttl);
                    let message = StoredMessage { seq, at: now, expires, frame: frame(seq, size) };
                    history.push(&tag(at), Target::Everyone, message.clone());
                    model.rings.entry(at).or_default().push(message, &RING, now);
                    model.age(at, now);
                }
                Step::Direct { tag: at, person: who, size, ttl } => {
                    seq += 1;
                    history.advance(now);
                    let expires = ttl.map(|ttl| now + ttl);
                    let message = StoredMessage { seq, at: now, expires, frame: frame(seq, size) };
                    let stored = history.push(&tag(at), Target::One(person(who)), message.clone());
                    let bounds = inbox_bounds(at);
                    let inbox = model.inboxes.entry((at, who)).or_default();
                    inbox.push(message, &bounds, now);
                    prop_assert_eq!(stored, inbox.kept.contains(&seq));
                    model.age(at, now);
                }
                Step::Read { person: who, back, only } => {
                    seq += 1;
                    history.advance(now);
                    let upto = seq.saturating_sub(back);
                    let mark = if only { Mark::Only([upto].into()) } else { Mark::UpTo(upto) };
                    model.age(0, now);
                    let inbox = model.inboxes.entry((0, who)).or_default();
                    let matching = |kept: &u64| if only { *kept == upto } else { *kept <= upto };
                    history.refresh(&tag(0));
                    prop_assert_eq!(
                        history.has(&tag(0), person(who), &mark),
                        inbox.kept.iter().any(matching)
                    );
                    history.read(&tag(0), person(who), &mark);
                    inbox.kept.retain(|kept| !matching(kept));
                }
                Step::Resume { tag: at, person: who, behind, unread, budget } => {
                    let since = u64::saturating_sub(seq, behind);
                    let start = Start { since: Some(since), last: None, unread };
                    let Begun { recovered, mut replay, .. } = history.begin(&tag(at), who.map(person), seq, start, 0);
                    // The time of the log is that of the last entry.
                    let log_now = history.now;
                    model.age(at, log_now);
                    let ring = model.rings.entry(at).or_default();
                    let mut lost = ring.evicted_through;
                    let mut wanted: Vec<(u64, bool)> =
                        ring.due_after(since, log_now).into_iter().map(|seq| (seq, false)).collect();
                    if let Some(who) = who {
                        let inbox = model.inboxes.entry((at, who)).or_default();
                        lost = lost.max(inbox.evicted_through);
                        let after = if unread { 0 } else { since };
                        let directs = inbox.due_after(after, log_now);
                        wanted.extend(directs.into_iter().map(|seq| (seq, seq <= since)));
                    }
                    wanted.sort_unstable();
                    prop_assert_eq!(recovered, Some(lost <= since));
                    prop_assert_eq!(pull_all(&history, &tag(at), &mut replay, budget), wanted);
                }
                Step::Arrive { tag: at, person: who, last } => {
                    let start = Start { since: None, last: Some(last), unread: false };
                    let Begun { recovered, mut replay, .. } = history.begin(&tag(at), who.map(person), seq, start, 0);
                    prop_assert_eq!(recovered, None);
                    let log_now = history.now;
                    model.age(at, log_now);
                    let ring = model.rings.entry(at).or_default();
                    let all: Vec<u64> = ring.kept.iter().copied().collect();
                    let from = all.len().saturating_sub(usize::try_from(last).unwrap());
                    let mut wanted: Vec<u64> = all[from..].to_vec();
                    wanted.retain(|seq| ring.of(*seq).is_due(log_now));
                    if let Some(who) = who {
                        wanted.extend(model.inboxes.entry((at, who)).or_default().due_after(0, log_now));
                    }
                    wanted.sort_unstable();
                    let got = pull_all(&history, &tag(at), &mut replay, 700);
                    prop_assert_eq!(got, wanted.into_iter().map(|seq| (seq, false)).collect::<Vec<_>>());
                }
            }
        }
    }

    /// The memory budget is never exceeded, and every loss is reported.
    #[test]
    fn the_budget_holds_and_the_largest_tag_gives_first(
        sizes in prop::collection::vec((0..4_usize, 1..900_usize), 1..300),
    ) {
        const BUDGET: usize = 20_000;
        let wide = HistoryBounds { count: 1_000, age: Duration::from_secs(9), bytes: 1 << 30 };
        let bounds = TagBounds { ring: wide, inbox: wide };
        let names = ["a", "b", "c", "quiet"].map(|name| Tag::parse(name).unwrap());
        let mut settings = Settings::new(BUDGET, bounds.without_inbox());
        for name in &names {
            settings.set(name.clone(), bounds);
        }
        let mut history = History::new(settings, 0);
        history.push(&names[3], Target::One(person(9)), StoredMessage {
            seq: 1, at: 0, expires: None, frame: frame(1, 100),
        });
        let mut seqs: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for (index, (which, size)) in sizes.into_iter().enumerate() {
            let (seq, which) = (index as u64 + 2, which % 3);
            let target =
                if seq.is_multiple_of(3) { Target::Everyone } else { Target::One(person((seq % 5) as u8)) };
            history.push(&names[which], target, StoredMessage { seq, at: 0, expires: None, frame: frame(seq, size) });
            seqs.entry(which).or_default().push(seq);
            prop_assert!(history.bytes() <= BUDGET, "{} bytes", history.bytes());
            prop_assert_eq!(history.bytes(), history.bytes_by_tag().map(|(_, bytes)| bytes).sum::<usize>());
            prop_assert_eq!(history.held, history.recounted());
        }
        // The tag `quiet` is far below its share, so none of its messages was evicted.
        prop_assert!(history.is_unread(&names[3], person(9), 1));
        for (which, seqs) in seqs {
            let tag = &names[which];
            for who in 0..5 {
                let start = Start { since: Some(0), last: None, unread: false };
                let Begun { recovered, mut replay, .. } = history.begin(tag, Some(person(who)), u64::MAX, start, 0);
                let got: Vec<u64> =
                    pull_all(&history, tag, &mut replay, 1_000).into_iter().map(|(seq, _)| seq).collect();
                let theirs =
                    |seq: &&u64| seq.is_multiple_of(3) || **seq % 5 == u64::from(who);
                let wanted: Vec<u64> = seqs.iter().filter(theirs).copied().collect();
                prop_assert_eq!(recovered, Some(got == wanted));
            }
        }
    }
}

#[test]
fn what_is_dropped_during_a_replay_is_told_once() {
    let mut history = History::new(settings(1 << 30), 0);
    let push = |history: &mut History, seq| {
        history.push(
            &tag(0),
            Target::Everyone,
            StoredMessage { seq, at: 0, expires: None, frame: frame(seq, 10) },
        );
    };
    (1..=4).for_each(|seq| push(&mut history, seq));
    let start = Start { since: Some(0), last: None, unread: false };
    let Begun { recovered, mut replay, .. } = history.begin(&tag(0), None, 4, start, 0);
    assert_eq!(recovered, Some(true));
    let seqs =
        |pulled: &Pulled| -> Vec<u8> { pulled.frames.iter().map(|(frame, _)| frame[7]).collect() };
    let first = history.pull(&tag(0), &mut replay, 1, 0);
    assert_eq!((seqs(&first), first.gap, first.done), (vec![1], false, false));
    // Messages 5, 6 and 7 evict 2 and 3, and are not part of the replay.
    (5..=7).for_each(|seq| push(&mut history, seq));
    let second = history.pull(&tag(0), &mut replay, 1, 0);
    assert_eq!((seqs(&second), second.gap), (vec![4], true));
    (8..=11).for_each(|seq| push(&mut history, seq));
    let last = history.pull(&tag(0), &mut replay, 1, 0);
    assert_eq!((seqs(&last), last.gap, last.done), (vec![], false, true), "4 was handed over");
    // The extended replay includes the live messages that were dropped from memory.
    replay.note(9, false);
    replay.extend();
    let more = history.pull(&tag(0), &mut replay, 1, 0);
    assert_eq!((seqs(&more), more.gap, replay.upto), (vec![8], true, 9));
}

#[test]
fn a_registration_anew_leaves_out_what_was_handed_over() {
    let mut history = History::new(settings(1 << 30), 0);
    for seq in 1..=4 {
        history.push(
            &tag(0),
            Target::Everyone,
            StoredMessage { seq, at: 0, expires: None, frame: frame(seq, 10) },
        );
    }
    let start = |since| Start { since: Some(since), last: None, unread: false };
    let Begun { replay: mut first, .. } = history.begin(&tag(0), None, 4, start(2), 0);
    assert_eq!(history.pull(&tag(0), &mut first, 1, 0).frames.len(), 1);
    assert_eq!(first.handed().0, [(2, 3)]);
    let Begun { replay: mut second, .. } = history.begin(&tag(0), None, 4, start(1), 0);
    second.leave_out(first.handed().0, Vec::new());
    let seqs: Vec<u64> =
        pull_all(&history, &tag(0), &mut second, 1).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [2, 4]);
    assert_eq!(second.handed().0, [(1, 4)]);
    // A third registration leaves out what the first two have delivered: the intervals (0, 1) and
    // (2, 3).
    let Begun { replay: mut third, .. } = history.begin(&tag(0), None, 4, start(0), 0);
    third.leave_out(vec![(0, 1), (2, 3)], Vec::new());
    assert_eq!((third.handed().0, third.handed_after().0), (vec![(0, 1), (2, 3)], 0));
    let Begun { replay: mut fourth, .. } = history.begin(&tag(0), None, 4, start(0), 0);
    fourth.leave_out(third.handed().0, Vec::new());
    let seqs: Vec<u64> =
        pull_all(&history, &tag(0), &mut fourth, 1).iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [2, 4]);
    assert_eq!(fourth.handed().0, [(0, 4)]);
}

#[test]
fn tags_that_hold_nothing_are_forgotten_at_last() {
    let none = HistoryBounds { count: 0, ..RING };
    let mut history =
        History::new(Settings::new(1 << 30, TagBounds { ring: none, inbox: none }), 0);
    for seq in 1..=70_000_u64 {
        let tag = Tag::parse(&format!("t{seq}")).unwrap();
        history.push(
            &tag,
            Target::Everyone,
            StoredMessage { seq, at: 0, expires: None, frame: frame(seq, 1) },
        );
    }
    assert!(history.tags.len() <= REMEMBERED);
    let start = Start { since: Some(1), last: None, unread: false };
    let Begun { recovered, .. } = history.begin(&Tag::parse("t1").unwrap(), None, 70_000, start, 0);
    assert_eq!(recovered, Some(false), "rather told of a loss than left in the dark");
}

#[test]
fn what_is_too_old_by_the_clock_is_not_handed_over_although_no_entry_came() {
    let mut history = History::new(settings(1 << 30), 0);
    let message = |seq, at| StoredMessage { seq, at, expires: None, frame: frame(seq, 10) };
    history.push(&tag(0), Target::Everyone, message(1, 0));
    history.push(&tag(0), Target::One(person(0)), message(2, 0));
    history.push(&tag(0), Target::Everyone, message(3, 20));
    let start = Start { since: Some(0), last: None, unread: false };
    // The age limit of the ring is 50 ms, and that of the inbox is 80 ms.
    for (clock, wanted, recovered) in [
        (49, vec![1, 2, 3], true),
        (50, vec![2, 3], false),
        (79, vec![2], false),
        (80, vec![], false),
        // A clock that goes back evicts nothing.
        (0, vec![1, 2, 3], true),
    ] {
        let mut begun = history.begin(&tag(0), Some(person(0)), 3, start, clock);
        assert_eq!(begun.recovered, Some(recovered), "at {clock}");
        let pulled = history.pull(&tag(0), &mut begun.replay, usize::MAX, clock);
        let seqs: Vec<u8> = pulled.frames.iter().map(|(frame, _)| frame[7]).collect();
        assert_eq!((seqs, pulled.gap), (wanted, false), "at {clock}: told once");
        let unread = history.unread(&tag(0), person(0), clock).count();
        assert_eq!(unread, usize::from(clock < 80));
    }
    // The remaining messages become too old in the middle of the replay, before they are pulled.
    let Begun { mut replay, .. } = history.begin(&tag(0), Some(person(0)), 3, start, 0);
    assert_eq!(history.pull(&tag(0), &mut replay, 1, 0).frames.len(), 1);
    let rest = history.pull(&tag(0), &mut replay, 1, 80);
    assert!(rest.gap && rest.done && rest.frames.is_empty(), "{rest:?}");
}

#[test]
fn a_clock_that_was_ahead_does_no_harm_later() {
    let mut history = History::new(settings(1 << 30), 0);
    let mut push = |seq, at, who| {
        history.advance(at);
        let message = StoredMessage { seq, at, expires: None, frame: frame(seq, 10) };
        history.push(&tag(0), Target::One(person(who)), message)
    };
    assert!(push(1, 1_000, 0));
    assert!(push(2, 1_000_000, 1), "by a clock that is wrong");
    assert!(push(3, 2_000, 2), "by one that is right again");
}
