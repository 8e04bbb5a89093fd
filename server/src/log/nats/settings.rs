//! The settings that must be equal on all servers of one stream, because they decide which messages
//! a server keeps. They are stored in the stream's metadata, with one line for each tag.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::duration_text;
use crate::size;

/// The names of the values in the stream's metadata.
pub(super) mod metadata {
    pub(in crate::log::nats) const FORMAT: &str = "tocsin-format";
    pub(in crate::log::nats) const EPOCH: &str = "tocsin-epoch";
    pub(in crate::log::nats) const ID_KEY: &str = "tocsin-id-key";
    pub(in crate::log::nats) const HISTORY: &str = "tocsin-kept";
    pub(in crate::log::nats) const PROTECTED: &str = "tocsin-protected";
    pub(in crate::log::nats) const OPEN: &str = "tocsin-open";
}

/// The format of the metadata. A server refuses a stream with another format.
pub(super) const FORMAT: &str = "1";
/// The name of the line for all tags that have no line of their own.
const OTHER_TAGS: &str = "any other tag";
/// The name of the line with the memory limit for all tags together.
const ALL_TAGS: &str = "all together";

/// The names of a tag's six numbers, in their order in a line.
const NAMES: [&str; 6] = ["ring", "ring-age", "ring-bytes", "inbox", "inbox-age", "inbox-bytes"];
/// How many differences an error names. People would not read more, and the next start names the
/// rest.
const MAX_NAMED: usize = 8;

/// The bounds of a tag: count, milliseconds and bytes of its ring, then those of its inbox.
pub(crate) type TagNumbers = [u64; 6];

/// The settings that all servers of a stream have in common.
#[derive(Debug, Clone)]
pub(crate) struct CommonSettings {
    /// The fingerprint of the id key.
    pub id_key: String,
    /// The limits of the history.
    pub history: CommonHistory,
    /// The pairs of tag and action that have keys, each as `TAG:ACTION`.
    pub protected: BTreeSet<String>,
    /// The pairs of tag and action that are opened, each as `TAG:ACTION`.
    pub open: BTreeSet<String>,
    /// How long the stream must keep an entry.
    pub retention: Duration,
}

/// The limits of the history of every tag.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommonHistory {
    tags: BTreeMap<String, TagNumbers>,
    max_memory: Option<u64>,
    /// Lines that this version does not understand.
    unknown: BTreeSet<String>,
}

impl CommonSettings {
    /// Converts the settings to the stream's metadata.
    pub(super) fn to_metadata(&self) -> HashMap<String, String> {
        let lines = |pairs: &BTreeSet<String>| {
            pairs.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
        };
        HashMap::from([
            (metadata::FORMAT.into(), FORMAT.into()),
            (metadata::ID_KEY.into(), self.id_key.clone()),
            (metadata::HISTORY.into(), self.history.to_lines()),
            (metadata::PROTECTED.into(), lines(&self.protected)),
            (metadata::OPEN.into(), lines(&self.open)),
        ])
    }

    /// Names the differences between these settings and those in `metadata`, in the words of the
    /// configuration file. `None` if they agree.
    pub(super) fn difference(&self, metadata: &HashMap<String, String>) -> Option<String> {
        let text = |name| metadata.get(name).map_or("", String::as_str);
        let history = CommonHistory::from_lines(text(metadata::HISTORY));
        let pairs = |name| text(name).lines().map(str::to_owned).collect();
        let mut found = only_here(&self.protected, &pairs(metadata::PROTECTED), "has a key");
        found.extend(only_here(&self.open, &pairs(metadata::OPEN), "is open"));
        difference(found, &self.history, &history)
    }
}

impl CommonHistory {
    /// Creates the limits: `by_tag` for tags with bounds of their own, `usual` for every other tag,
    /// and `max_memory` for all tags together.
    pub(crate) fn new(
        by_tag: BTreeMap<String, TagNumbers>,
        usual: TagNumbers,
        max_memory: u64,
    ) -> Self {
        let mut tags = by_tag;
        tags.insert(OTHER_TAGS.into(), usual);
        Self { tags, max_memory: Some(max_memory), unknown: BTreeSet::new() }
    }

    fn to_lines(&self) -> String {
        let tags = self.tags.iter().map(|(name, [count, age, bytes, inbox @ ..])| {
            let [inbox_count, inbox_age, inbox_bytes] = inbox;
            format!(
                "{name}: ring {count} {age} ms {bytes} B, \
                 inbox {inbox_count} {inbox_age} ms {inbox_bytes} B"
            )
        });
        let memory = self.max_memory.iter().map(|bytes| format!("{ALL_TAGS}: {bytes} B"));
        tags.chain(memory).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("\n")
    }

    fn from_lines(lines: &str) -> Self {
        let mut history = Self::default();
        for line in lines.lines() {
            match line.split_once(": ").and_then(|(name, rest)| Some((name, numbers(rest)?))) {
                Some((ALL_TAGS, numbers)) if numbers.len() == 1 => {
                    history.max_memory = Some(numbers[0]);
                }
                Some((name, numbers)) if let Ok(numbers) = numbers.as_slice().try_into() => {
                    history.tags.insert(name.into(), numbers);
                }
                _ => {
                    history.unknown.insert(line.into());
                }
            }
        }
        history
    }

    fn of(&self, name: &str) -> TagNumbers {
        self.tags.get(name).or_else(|| self.tags.get(OTHER_TAGS)).copied().unwrap_or_default()
    }
}

/// Parses the numbers of a line such as `ring 100 3600000 ms 8388608 B, inbox 0 604800000 ms
/// 1048576 B`. `None` if the line has any other word.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    let values = words.filter(|word| !["ring", "inbox", "ms", "B"].contains(word));
    values.map(|word| word.parse().ok()).collect()
}

/// The pairs that have `what` only here or only in the stream.
fn only_here(ours: &BTreeSet<String>, theirs: &BTreeSet<String>, what: &str) -> Vec<String> {
    let here = ours.difference(theirs).map(|pair| format!("{pair} {what} here, not in the stream"));
    let there =
        theirs.difference(ours).map(|pair| format!("{pair} {what} in the stream, not here"));
    here.chain(there).collect()
}

/// Joins what was `found` and the differences between two histories.
fn difference(
    mut found: Vec<String>,
    ours: &CommonHistory,
    theirs: &CommonHistory,
) -> Option<String> {
    for name in ours.tags.keys().chain(theirs.tags.keys()).collect::<BTreeSet<_>>() {
        tag_difference(name, ours, theirs, &mut found);
    }
    if ours.max_memory != theirs.max_memory {
        let [ours, theirs] =
            [ours, theirs].map(|history| history.max_memory.map_or("unknown".into(), size::exact));
        found.push(format!("max-memory {ours} here, {theirs} in the stream"));
    }
    let unknown = ours.unknown.symmetric_difference(&theirs.unknown);
    found.extend(unknown.map(|line| format!("{line}: what only a newer server understands")));
    let unnamed = found.len().saturating_sub(MAX_NAMED);
    found.truncate(MAX_NAMED);
    if unnamed > 0 {
        found.push(format!("and {unnamed} more"));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

fn tag_difference(
    name: &str,
    ours: &CommonHistory,
    theirs: &CommonHistory,
    found: &mut Vec<String>,
) {
    let before = found.len();
    for (index, (ours, theirs)) in ours.of(name).into_iter().zip(theirs.of(name)).enumerate() {
        if ours != theirs {
            let [ours, theirs] = [ours, theirs].map(|value| as_configured(index, value));
            let setting = NAMES[index];
            found.push(format!("{name}: {setting} {ours} here, {theirs} in the stream"));
        }
    }
    if found.len() == before && ours.tags.contains_key(name) != theirs.tags.contains_key(name) {
        found.push(match ours.tags.contains_key(name) {
            true => format!("{name}: declared here, not in the stream"),
            false => format!("{name}: declared in the stream, not here"),
        });
    }
}

fn as_configured(index: usize, value: u64) -> String {
    match index % 3 {
        0 => value.to_string(),
        1 => duration_text::show(Duration::from_millis(value)),
        _ => size::exact(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> CommonHistory {
        CommonHistory::from_lines(&lines.join("\n"))
    }

    fn pairs(pairs: &[&str]) -> BTreeSet<String> {
        pairs.iter().map(|&pair| pair.into()).collect()
    }

    #[test]
    fn a_difference_is_told_in_the_words_of_the_configuration() {
        let usual = "any other tag: ring 100 3600000 ms 8388608 B, inbox 0 604800000 ms 1048576 B";
        let there = lines(&[
            usual,
            "shop: ring 50 3600000 ms 8388608 B, inbox 50 604800000 ms 1048577 B",
            "all together: 268435456 B",
        ]);
        let here = lines(&[
            usual,
            "news: ring 100 3600000 ms 8388608 B, inbox 0 604800000 ms 1048576 B",
            "shop: ring 100 5400000 ms 8388608 B, inbox 50 604800000 ms 1048576 B",
            "all together: 67108864 B",
            "beyond: ring 1",
        ]);
        let (none, pair) = (pairs(&[]), pairs(&["news:send"]));
        let words = difference(only_here(&pair, &none, "has a key"), &here, &there).unwrap();
        assert_eq!(
            words,
            "news:send has a key here, not in the stream; \
             news: declared here, not in the stream; \
             shop: ring 100 here, 50 in the stream; \
             shop: ring-age 1 hour 30 minutes here, 1 hour in the stream; \
             shop: inbox-bytes 1MiB here, 1048577B in the stream; \
             max-memory 64MiB here, 256MiB in the stream; \
             beyond: ring 1: what only a newer server understands"
        );
        assert_eq!(difference(only_here(&pair, &pair, "has a key"), &here, &here), None);
        let pairs: BTreeSet<String> = (10..30).map(|number| format!("t{number}:send")).collect();
        let words = difference(only_here(&none, &pairs, "is open"), &here, &here).unwrap();
        assert!(words.starts_with("t10:send is open in the stream, not here; t11"), "{words}");
        assert!(words.ends_with("t17:send is open in the stream, not here; and 12 more"));
    }
}
