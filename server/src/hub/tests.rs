//! Compares the hub with a naive model, and two hubs that apply the same log, one of which lags and
//! restarts.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::entry::{AppendContext, AppendId};
use crate::hub::history::{Begun, Start};
use crate::hub::history::{HistoryBounds, TagBounds};
use crate::log::Replica as _;
use crate::protocol::Resume;
use crate::protocol::{Message, Mid};

const COUNT: usize = 3;
const AGE: u64 = 400_000;
const MID_WINDOW: u64 = 600_000;

fn tag(index: usize) -> Tag {
    Tag::parse(["shop", "open"][index]).unwrap()
}

fn settings() -> Settings {
    let kind = HistoryBounds { count: COUNT, age: Duration::from_millis(AGE), bytes: 1 << 20 };
    let bounds = TagBounds { ring: kind, inbox: kind };
    let mut settings = Settings::new(1 << 30, bounds.without_inbox());
    settings.set(tag(0), bounds);
    settings
}

fn hub(evicted_through: u64) -> Hub {
    Hub::new(
        "e".into(),
        vec![Arc::default()],
        settings(),
        RegistrationLimits::default(),
        evicted_through,
    )
}

fn person(number: u8) -> Address {
    Address::from_bytes([number; 32])
}

fn entry() -> impl Strategy<Value = (Entry, u64)> {
    let message = || (0..3_u8).prop_map(|n| Message::kept(n.to_string().into()));
    let body = prop_oneof![
        4 => message().prop_map(EntryKind::Broadcast),
        6 => (0..2_u8, message()).prop_map(|(who, message)| EntryKind::Direct(person(who), message)),
        2 => (0..2_u8, 0..40_u64).prop_map(|(who, seq)| EntryKind::Read(person(who), Mark::UpTo(seq))),
        1 => (0..2_u8, 0..40_u64)
            .prop_map(|(who, seq)| EntryKind::Read(person(who), Mark::Only([seq].into()))),
        1 => (0..2_u8).prop_map(|who| EntryKind::Drop(person(who))),
    ];
    let mid = prop_oneof![2 => Just(None), 1 => (0..3_u8).prop_map(Some)];
    let append = prop_oneof![3 => Just(None), 1 => (0..9_u64).prop_map(Some)];
    let ttl = prop_oneof![2 => Just(None), 1 => (1..900_000_u64).prop_map(Some)];
    let pause = 0..90_000_u64;
    (0..2_usize, body, pause, mid, append, ttl).prop_map(|(at, body, pause, mid, append, ttl)| {
        let mid = mid.map(|mid| Mid::kept(mid.to_string().into()));
        let append = append.map(|number| AppendId { writer: 1, number });
        // `expires` is relative here; the test adds the time of the entry later.
        (Entry { tag: tag(at), kind: body, at: 0, expires: ttl, mid, append }, pause)
    })
}

/// The stored seqs with their times, and the highest evicted seq.
type ModelRing = (Vec<(u64, u64)>, u64);

/// The naive model of the hub's state after the entries so far.
#[derive(Debug, Default)]
struct Model {
    rings: HashMap<(usize, Option<Address>), ModelRing>,
    /// Each append with the seq and the time of its first copy.
    appends: HashMap<AppendId, (u64, u64)>,
    mids: HashMap<(Tag, Target, Mid), (u64, u64, String)>,
}

impl Model {
    fn apply(&mut self, seq: u64, entry: &Entry) -> Result<(u64, bool, bool), ErrorCode> {
        let now = entry.at;
        self.age(now);
        let at = usize::from(entry.tag == tag(1));
        let address = match entry.kind.target() {
            Target::Everyone => None,
            Target::One(address) => Some(address),
        };
        if let Some(append) = entry.append {
            match self.appends.get(&append) {
                Some((first, when)) if when + MID_WINDOW > now => {
                    return Ok((*first, self.has(at, address, *first), false));
                }
                _ => self.appends.insert(append, (seq, now)),
            };
        }
        if let (Some(mid), Some(message)) = (&entry.mid, entry.kind.message()) {
            let name = (entry.tag.clone(), entry.kind.target(), mid.clone());
            match self.mids.get(&name) {
                Some((first, when, known)) if when + MID_WINDOW > now => {
                    return match known == message.as_json() {
                        true => Ok((*first, self.has(at, address, *first), true)),
                        false => Err(ErrorCode::MidConflict),
                    };
                }
                _ => self.mids.insert(name, (seq, now, message.as_json().to_owned())),
            };
        }
        let (kept, lost) = self.rings.entry((at, address)).or_default();
        match &entry.kind {
            EntryKind::Broadcast(_) => kept.push((seq, now)),
            EntryKind::Direct(..) if at == 0 => kept.push((seq, now)),
            EntryKind::Direct(..) => *lost = seq,
            EntryKind::Read(_, Mark::UpTo(upto)) => kept.retain(|(seq, _)| seq > upto),
            EntryKind::Read(_, Mark::Only(seqs)) => kept.retain(|(seq, _)| !seqs.contains(seq)),
            EntryKind::Drop(_) => kept.clear(),
        }
        while kept.len() > COUNT {
            *lost = kept.remove(0).0;
        }
        self.age(now);
        Ok((seq, self.has(at, address, seq), false))
    }

    fn age(&mut self, now: u64) {
        for (kept, lost) in self.rings.values_mut() {
            while kept.first().is_some_and(|(_, at)| at + AGE <= now) {
                *lost = kept.remove(0).0;
            }
        }
    }

    fn has(&self, at: usize, address: Option<Address>, seq: u64) -> bool {
        address.is_some() && self.seqs(at, address).contains(&seq)
    }

    fn seqs(&self, at: usize, address: Option<Address>) -> Vec<u64> {
        let ring = self.rings.get(&(at, address));
        ring.map_or_else(Vec::new, |(kept, _)| kept.iter().map(|(seq, _)| *seq).collect())
    }

    fn evicted_through(&self, at: usize, address: Option<Address>) -> u64 {
        self.rings.get(&(at, address)).map_or(0, |(_, lost)| *lost)
    }
}

/// What a follower does while its leader applies one more entry.
#[derive(Debug, Clone, Copy)]
enum Follow {
    /// The follower applies at most this many more entries.
    On(usize),
    /// The follower restarts from an empty state and applies at most this many entries.
    Anew(usize),
    /// A client reads from the follower.
    Asked,
}

fn step_of_follower() -> impl Strategy<Value = Follow> {
    prop_oneof![
        4 => Just(Follow::On(0)),
        3 => (1..4_usize).prop_map(Follow::On),
        1 => (4..40_usize).prop_map(Follow::On),
        1 => (0..80_usize).prop_map(Follow::Anew),
        2 => Just(Follow::Asked),
    ]
}

/// Applies at most `most` further entries, and asserts that the outcomes equal those of the leader.
fn catch_up(
    hub: &Hub,
    log: &[Entry],
    outcomes: &[Appended],
    most: usize,
) -> Result<(), TestCaseError> {
    let head = usize::try_from(hub.head()).unwrap();
    for (index, entry) in log.iter().enumerate().skip(head).take(most) {
        prop_assert_eq!(
            &hub.apply(index as u64 + 1, entry, AppendContext::default()),
            &outcomes[index]
        );
    }
    Ok(())
}

/// Returns what a client with a cursor gets: `recovered`, the unread seqs, and the messages.
fn resumed(hub: &Hub, at: usize, who: u8, since: u64) -> (bool, Vec<u64>, Vec<String>) {
    let state = hub.state.lock();
    let head = hub.head();
    let start = Start { since: Some(since.min(head)), last: None, unread: false };
    let Begun { recovered, mut replay, .. } =
        state.history.begin(&tag(at), Some(person(who)), head, start, 0);
    let pulled = state.history.pull(&tag(at), &mut replay, usize::MAX, 0);
    let unread =
        state.history.unread(&tag(at), person(who), 0).map(|message| message.seq).collect();
    let texts = pulled.frames.iter().map(|(frame, _)| frame::text_of(frame).to_owned()).collect();
    (recovered.unwrap(), unread, texts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn applying_a_log_does_what_the_model_says(entries in prop::collection::vec(entry(), 1..60)) {
        let hub = hub(0);
        let mut model = Model::default();
        let mut now = 1_000_000;
        for (index, (mut entry, pause)) in entries.into_iter().enumerate() {
            now += pause;
            entry.at = now;
            // Expiry is left out, because the test of the history covers it.
            entry.expires = None;
            let seq = index as u64 + 1;
            let outcome = hub.apply(seq, &entry, AppendContext::default());
            let outcome = outcome
                .map(|applied| (applied.seq, applied.stored, applied.duplicate))
                .map_err(|refusal| refusal.code);
            prop_assert_eq!(outcome, model.apply(seq, &entry));
            // When the client resumes below, the hub evicts messages that are too old, so the model
            // drops them too.
            model.age(now);
            for at in 0..2 {
                for who in 0..2 {
                    for since in [0, seq / 2, seq] {
                        let (recovered, unread, texts) = resumed(&hub, at, who, since);
                        let lost = model.evicted_through(at, None)
                            .max(model.evicted_through(at, Some(person(who))));
                        prop_assert_eq!(recovered, lost <= since);
                        prop_assert_eq!(&unread, &model.seqs(at, Some(person(who))));
                        let mut wanted = [model.seqs(at, None), unread].concat();
                        wanted.retain(|seq| *seq > since);
                        wanted.sort_unstable();
                        let seqs: Vec<u64> = texts.iter().map(|text| {
                            let value: serde_json::Value = serde_json::from_str(text).unwrap();
                            value["seq"].as_u64().unwrap()
                        }).collect();
                        prop_assert_eq!(seqs, wanted);
                    }
                }
            }
        }
    }

    /// A follower that lags and restarts has the leader's state in the end. A follower that starts
    /// from a trimmed log differs only in the trimmed entries, and reports them as lost.
    #[test]
    fn who_follows_keeps_the_same(
        entries in prop::collection::vec(entry(), 1..80),
        steps in prop::collection::vec(step_of_follower(), 80),
        trimmed in 0..30_u64,
    ) {
        let mut now = 1_000_000;
        let log: Vec<Entry> = entries.into_iter().map(|(mut entry, pause)| {
            now += pause;
            entry.at = now;
            entry.expires = entry.expires.map(|ttl| now + ttl);
            entry
        }).collect();
        let leader = hub(0);
        let mut outcomes = Vec::new();
        let mut follower = hub(0);
        for (index, entry) in log.iter().enumerate() {
            outcomes.push(leader.apply(index as u64 + 1, entry, AppendContext::default()));
            // Reads from only one of the two hubs make no difference.
            resumed(&leader, index % 2, 0, 0);
            match steps[index] {
                Follow::On(more) => catch_up(&follower, &log[..=index], &outcomes, more)?,
                Follow::Anew(from_the_start) => {
                    follower = hub(0);
                    catch_up(&follower, &log[..=index], &outcomes, from_the_start)?;
                }
                Follow::Asked => {
                    resumed(&follower, index % 2, 1, 0);
                }
            }
        }
        catch_up(&follower, &log, &outcomes, usize::MAX)?;
        let head = log.len() as u64;
        let from = trimmed.min(head);
        let late = hub(from);
        for (index, entry) in log.iter().enumerate().skip(usize::try_from(from).unwrap()) {
            let _ = late.apply(index as u64 + 1, entry, AppendContext::default());
        }
        for at in 0..2 {
            for who in 0..2 {
                for since in 0..=head {
                    let whole = resumed(&leader, at, who, since);
                    prop_assert_eq!(&whole, &resumed(&follower, at, who, since));
                    if since < from {
                        prop_assert!(!resumed(&late, at, who, since).0, "it cannot know");
                    }
                }
            }
        }
    }
}

/// One step of a random sequence of registrations and entries.
#[derive(Debug, Clone)]
enum Move {
    /// Registers with or without an ID. The new registration replaces the earlier one on the tag.
    Register {
        connection: usize,
        tag: usize,
        person: Option<u8>,
    },
    Unregister {
        connection: usize,
        tag: usize,
    },
    Drop {
        tag: usize,
        person: u8,
    },
    Broadcast {
        tag: usize,
    },
    /// The next entry is lost.
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Move>> {
    // Most steps use one ID, which soon has too many connections.
    let tag = || prop_oneof![4 => Just(0), 1 => 1..4_usize];
    let person = || prop_oneof![4 => Just(0), 1 => Just(1_u8)];
    let connection = || 0..40_usize;
    let step = prop_oneof![
        40 => (connection(), tag(), prop::option::weighted(0.8, person()))
            .prop_map(|(connection, tag, person)| Move::Register { connection, tag, person }),
        6 => (connection(), tag()).prop_map(|(connection, tag)| Move::Unregister { connection, tag }),
        1 => (tag(), person()).prop_map(|(tag, person)| Move::Drop { tag, person }),
        6 => tag().prop_map(|tag| Move::Broadcast { tag }),
        1 => Just(Move::Lose),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// The running sums equal the sums that are computed anew. The listed tags are the first of all
    /// tags in the sorting order.
    #[test]
    fn the_counts_are_right_whoever_comes_and_goes(steps in steps(), most in 0..6_usize) {
        let hub = hub(0);
        let names = ["shop", "open", "blog", "chat"].map(|name| Tag::parse(name).unwrap());
        let connections: Vec<_> =
            (0..40).map(|number| Arc::new(Connection::to_nobody(number))).collect();
        let mut registered: HashMap<(usize, usize), (Registration, Generation)> = HashMap::new();
        let mut seq = 0;
        for step in steps {
            let body = match step {
                Move::Register { connection, tag, person: who } => {
                    let new = Registration { tag: names[tag].clone(), address: who.map(person) };
                    let old = registered.remove(&(connection, tag));
                    let earlier = old.as_ref().map(|(registration, generation)| Earlier {
                        registration,
                        from: 0,
                        generation: *generation,
                    });
                    let connection = (connection, &connections[connection]);
                    let resume = Resume::default();
                    let stands = hub.register(connection.1, &new, earlier, &resume, 0);
                    registered.insert((connection.0, tag), (new, stands.generation));
                    None
                }
                Move::Unregister { connection, tag } => {
                    let gone = registered.remove(&(connection, tag));
                    let gone = gone.iter().map(|(gone, generation)| (gone, *generation));
                    hub.unregister(&connections[connection], gone);
                    None
                }
                Move::Drop { tag, person: who } => Some((tag, EntryKind::Drop(person(who)))),
                Move::Broadcast { tag } => {
                    Some((tag, EntryKind::Broadcast(Message::kept("1".into()))))
                }
                Move::Lose => {
                    seq += 1;
                    hub.reset_to(seq);
                    let totals = hub.totals();
                    prop_assert_eq!(
                        (totals.tags, totals.registrations, totals.ids, totals.kept.broadcasts),
                        (0, 0, 0, 0)
                    );
                    None
                }
            };
            if let Some((tag, body)) = body {
                seq += 1;
                let (tag, at) = (names[tag].clone(), 1_000_000);
                let (expires, mid, append) = (None, None, None);
                let entry = Entry { tag, kind: body, at, expires, mid, append };
                hub.apply(seq, &entry, AppendContext::default()).unwrap();
            }
            let (all, left_out) = hub.counts(usize::MAX);
            prop_assert_eq!(left_out, 0);
            let tags: Vec<_> = hub.state.lock().tags.iter()
                .map(|(tag, listeners)| (tag.clone(), listeners.registrations, listeners.ids()))
                .collect();
            let listened: Vec<_> = all.iter().filter(|counts| counts.registrations > 0).collect();
            prop_assert_eq!(tags.len(), listened.len());
            for (tag, registrations, ids) in &tags {
                let counts = all.iter().find(|counts| counts.tag == *tag).unwrap();
                prop_assert_eq!((counts.registrations, counts.ids), (*registrations, *ids));
            }
            let totals = hub.totals();
            prop_assert_eq!(totals.tags, tags.len());
            let sum = |of: fn(&TagCounts) -> usize| all.iter().map(of).sum::<usize>();
            prop_assert_eq!(totals.registrations, sum(|counts| counts.registrations));
            prop_assert_eq!(totals.ids, sum(|counts| counts.ids));
            prop_assert_eq!(totals.kept.broadcasts, sum(|counts| counts.kept.broadcasts));
            let mut sorted = all.clone();
            sorted.sort_by_key(|counts| {
                use std::cmp::Reverse;
                let kept = counts.kept.broadcasts + counts.kept.unread;
                (Reverse(counts.registrations), Reverse(kept), counts.tag.clone())
            });
            prop_assert_eq!(&sorted, &all);
            sorted.truncate(most);
            prop_assert_eq!(hub.counts(most), (sorted, all.len().saturating_sub(most)));
        }
    }
}
