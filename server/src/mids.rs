//! The messages' own names: a message sent again under its `mid` is delivered once.
//!
//! Decided where entries are applied, by the entries' own times, so that everyone who applies the
//! same log decides alike.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::id::Tag;
use crate::log::{Entry, Target};
use crate::protocol::Mid;

/// How long a name is remembered.
const WINDOW: Duration = Duration::from_secs(600);
/// How many are remembered at most; beyond, the oldest are forgotten.
const MOST: usize = 100_000;

/// The names used of late. Their scope is tag, action and ID.
#[derive(Debug, Default)]
pub(crate) struct Mids {
    known: HashMap<Name, Use>,
    /// Oldest first: when it was used, and for what.
    order: VecDeque<(u64, Name)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    tag: Tag,
    target: Target,
    mid: Mid,
}

#[derive(Debug)]
struct Use {
    seq: u64,
    digest: [u8; 32],
}

/// What a message's name says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Never seen, or without a name.
    New,
    /// The same message was applied before, as this seq.
    Duplicate(u64),
    /// Another message has this name.
    Conflict,
}

impl Mids {
    /// Judges the entry `seq` and remembers its name.
    pub(crate) fn judge(&mut self, seq: u64, entry: &Entry) -> Verdict {
        self.forget_before(entry.at);
        let Some(mid) = &entry.mid else { return Verdict::New };
        let name = Name { tag: entry.tag.clone(), target: entry.target, mid: mid.clone() };
        let digest = Sha256::digest(entry.message.as_json()).into();
        match self.known.get(&name) {
            Some(known) if known.digest == digest => Verdict::Duplicate(known.seq),
            Some(_) => Verdict::Conflict,
            None => {
                self.order.push_back((entry.at, name.clone()));
                self.known.insert(name, Use { seq, digest });
                if self.order.len() > MOST {
                    self.forget_oldest();
                }
                Verdict::New
            }
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

    fn entry(at: u64, tag: &str, mid: Option<&str>, message: &str) -> Entry {
        let mid = mid.map_or("null".to_owned(), |mid| format!("{mid:?}"));
        let text =
            format!(r#"{{"action":"broadcast","tag":"{tag}","mid":{mid},"message":"{message}"}}"#);
        let Ok(Action::Publish(publish)) = protocol::parse(&text).action else { panic!("{text}") };
        let protocol::Publish { tag, message, mid, .. } = *publish;
        Entry { tag, target: Target::Everyone, message, at, expires: None, mid }
    }

    #[test]
    fn a_name_is_known_for_ten_minutes_of_the_entries_time() {
        let mut mids = Mids::default();
        let minute = 60_000;
        assert_eq!(mids.judge(1, &entry(0, "t", Some("a"), "x")), Verdict::New);
        assert_eq!(mids.judge(2, &entry(minute, "t", Some("a"), "x")), Verdict::Duplicate(1));
        assert_eq!(mids.judge(3, &entry(minute, "t", Some("a"), "y")), Verdict::Conflict);
        assert_eq!(mids.judge(4, &entry(minute, "u", Some("a"), "y")), Verdict::New);
        assert_eq!(mids.judge(5, &entry(minute, "t", None, "x")), Verdict::New);
        assert_eq!(mids.judge(6, &entry(minute, "t", None, "x")), Verdict::New);
        let last = 10 * minute - 1;
        assert_eq!(mids.judge(7, &entry(last, "t", Some("a"), "x")), Verdict::Duplicate(1));
        assert_eq!(mids.judge(8, &entry(10 * minute, "t", Some("a"), "y")), Verdict::New);
    }

    #[test]
    fn so_many_names_are_known_at_most() {
        let mut mids = Mids::default();
        for number in 0..=MOST {
            let mid = number.to_string();
            mids.judge(number as u64 + 1, &entry(0, "t", Some(&mid), "x"));
        }
        assert_eq!((mids.known.len(), mids.order.len()), (MOST, MOST));
        assert_eq!(mids.judge(0, &entry(0, "t", Some("1"), "x")), Verdict::Duplicate(2));
        assert_eq!(mids.judge(0, &entry(0, "t", Some("0"), "x")), Verdict::New);
    }
}
