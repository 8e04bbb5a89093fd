//! The idempotency window: if a client sends a message again with its `mid`, it is delivered once.
//!
//! Duplicates are found when entries are applied, by the times in the entries. So all servers that
//! apply the log find the same duplicates.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::entry::{AppendId, Entry, Target};
use crate::id::Tag;
use crate::protocol::Mid;

/// How long a `mid` is remembered: ten minutes, as the documentation of the API promises.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);
/// How many keys of each kind are remembered. Beyond this number the oldest key is forgotten.
const MOST: usize = 100_000;

/// The keys of recent entries: append numbers and `mid`s. Clients may use a `mid` again with
/// another tag, action or ID.
#[derive(Debug, Default)]
pub(crate) struct DedupWindow {
    mids: Window<MidKey, MidUse>,
    appends: Window<AppendId, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MidKey {
    tag: Tag,
    target: Target,
    mid: Mid,
}

#[derive(Debug)]
struct MidUse {
    seq: u64,
    digest: Digest,
}

type Digest = [u8; 32];

/// The keys of an entry. They are computed before the lock of the hub is taken.
#[derive(Debug, Default)]
pub(crate) struct DedupKeys {
    append: Option<AppendId>,
    mid: Option<(MidKey, Digest)>,
}

impl DedupKeys {
    pub(crate) fn of(entry: &Entry) -> Self {
        let mid = entry.mid.as_ref().zip(entry.kind.message()).map(|(mid, message)| {
            let (tag, target) = (entry.tag.clone(), entry.kind.target());
            let name = MidKey { tag, target, mid: mid.clone() };
            (name, Sha256::digest(message.as_json()).into())
        });
        Self { append: entry.append, mid }
    }
}

/// The result of looking up the keys of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The entry has no key, or a key that is not known yet.
    New,
    /// The log contains this append twice; the first copy is the entry with this seq.
    Replayed(u64),
    /// A message with this `mid` and this content was applied before, as the entry with this seq.
    Duplicate(u64),
    /// Another message with a different content has this `mid`.
    Conflict,
}

impl DedupWindow {
    /// Looks up and remembers the keys of the entry `seq`, which was accepted at the time `at`.
    pub(crate) fn judge(&mut self, seq: u64, at: u64, names: DedupKeys) -> Verdict {
        if let Some(append) = names.append {
            self.appends.forget_before(at);
            if let Some(first) = self.appends.known.get(&append) {
                return Verdict::Replayed(*first);
            }
            self.appends.remember(append, at, seq);
        }
        let Some((name, digest)) = names.mid else { return Verdict::New };
        self.mids.forget_before(at);
        match self.mids.known.get(&name) {
            Some(known) if known.digest == digest => Verdict::Duplicate(known.seq),
            Some(_) => Verdict::Conflict,
            None => {
                self.mids.remember(name, at, MidUse { seq, digest });
                Verdict::New
            }
        }
    }
}

/// Keys with the entries that used them, limited in age and number.
#[derive(Debug)]
struct Window<K, V> {
    known: HashMap<K, V>,
    /// The keys, oldest first, each with the time of its entry.
    order: VecDeque<(u64, K)>,
}

impl<K, V> Default for Window<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Window<K, V> {
    fn remember(&mut self, name: K, at: u64, used: V) {
        self.order.push_back((at, name.clone()));
        self.known.insert(name, used);
        if self.order.len() > MOST {
            self.forget_oldest();
        }
    }

    fn forget_before(&mut self, now: u64) {
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        while let Some((at, _)) = self.order.front()
            && at.saturating_add(window) <= now
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.known.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{self, Action};

    use crate::entry::EntryKind;

    fn entry(at: u64, tag: &str, mid: Option<&str>, message: &str) -> Entry {
        let mid = mid.map_or("null".to_owned(), |mid| format!("{mid:?}"));
        let text =
            format!(r#"{{"action":"broadcast","tag":"{tag}","mid":{mid},"message":"{message}"}}"#);
        let Ok(Action::Publish(publish)) = protocol::parse(&text).action else { panic!("{text}") };
        let protocol::Publish { tag, message, mid, .. } = *publish;
        let kind = EntryKind::Broadcast(message);
        Entry { tag, kind, at, expires: None, mid, append: None }
    }

    fn judge(mids: &mut DedupWindow, seq: u64, entry: &Entry) -> Verdict {
        mids.judge(seq, entry.at, DedupKeys::of(entry))
    }

    #[test]
    fn an_append_that_the_log_has_taken_twice_counts_once() {
        let mut mids = DedupWindow::default();
        let append = |number| Some(AppendId { writer: 1, number });
        let entry = |number| Entry { append: append(number), ..entry(0, "t", None, "x") };
        assert_eq!(judge(&mut mids, 1, &entry(1)), Verdict::New);
        assert_eq!(judge(&mut mids, 2, &entry(2)), Verdict::New);
        assert_eq!(judge(&mut mids, 3, &entry(1)), Verdict::Replayed(1));
    }

    #[test]
    fn a_name_is_known_for_ten_minutes_of_the_entries_time() {
        let mut mids = DedupWindow::default();
        let minute = 60_000;
        assert_eq!(judge(&mut mids, 1, &entry(0, "t", Some("a"), "x")), Verdict::New);
        assert_eq!(judge(&mut mids, 2, &entry(minute, "t", Some("a"), "x")), Verdict::Duplicate(1));
        assert_eq!(judge(&mut mids, 3, &entry(minute, "t", Some("a"), "y")), Verdict::Conflict);
        assert_eq!(judge(&mut mids, 4, &entry(minute, "u", Some("a"), "y")), Verdict::New);
        assert_eq!(judge(&mut mids, 5, &entry(minute, "t", None, "x")), Verdict::New);
        assert_eq!(judge(&mut mids, 6, &entry(minute, "t", None, "x")), Verdict::New);
        let last = 10 * minute - 1;
        assert_eq!(judge(&mut mids, 7, &entry(last, "t", Some("a"), "x")), Verdict::Duplicate(1));
        assert_eq!(judge(&mut mids, 8, &entry(10 * minute, "t", Some("a"), "y")), Verdict::New);
    }

    #[test]
    fn so_many_names_are_known_at_most() {
        let mut mids = DedupWindow::default();
        for number in 0..=MOST {
            let mid = number.to_string();
            judge(&mut mids, number as u64 + 1, &entry(0, "t", Some(&mid), "x"));
        }
        assert_eq!((mids.mids.known.len(), mids.mids.order.len()), (MOST, MOST));
        assert_eq!(judge(&mut mids, 0, &entry(0, "t", Some("1"), "x")), Verdict::Duplicate(2));
        assert_eq!(judge(&mut mids, 0, &entry(0, "t", Some("0"), "x")), Verdict::New);
    }
}
