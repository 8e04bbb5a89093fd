//! In what a configuration differs from that of a stream's servers, in the words of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::duration_text;
use crate::size;

/// The tag that stands for all that have no line of their own.
pub(super) const OTHERS: &str = "any other tag";
/// What is not one tag's.
pub(super) const TOGETHER: &str = "all together";

/// Of a tag, in the order in which a line has them.
const SETTINGS: [&str; 6] = ["ring", "ring-age", "ring-bytes", "inbox", "inbox-age", "inbox-bytes"];
/// More would not be read; with them mended, the next start tells the rest.
const MOST: usize = 8;

/// What the lines of the metadata say.
#[derive(Default)]
struct RetentionDifference<'a> {
    tags: BTreeMap<&'a str, [u64; 6]>,
    memory: Option<u64>,
    /// What this version does not write.
    unknown: BTreeSet<&'a str>,
}

/// `None` if there is no difference. Each of the two has lines of what is kept, then of the
/// protected pairs.
pub(super) fn between(
    here: [&BTreeSet<String>; 2],
    there: [&BTreeSet<String>; 2],
) -> Option<String> {
    let mut all = pairs(here[1], there[1]);
    all.extend(kept(&RetentionDifference::read(here[0]), &RetentionDifference::read(there[0])));
    let left_out = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    if left_out > 0 {
        all.push(format!("and {left_out} more"));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

fn pairs(here: &BTreeSet<String>, there: &BTreeSet<String>) -> Vec<String> {
    let only = |pairs: &BTreeSet<String>, others: &BTreeSet<String>, words: &str| {
        pairs.difference(others).map(|pair| format!("{pair} {words}")).collect::<Vec<_>>()
    };
    let here_only = only(here, there, "has a key here, none in the stream");
    [here_only, only(there, here, "has a key in the stream, none here")].concat()
}

fn kept(here: &RetentionDifference<'_>, there: &RetentionDifference<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for name in here.tags.keys().chain(there.tags.keys()).collect::<BTreeSet<_>>() {
        let (ours, theirs) = (here.of(name), there.of(name));
        let before = found.len();
        for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            if ours != theirs {
                let [ours, theirs] = [*ours, *theirs].map(|value| show(index, value));
                let setting = SETTINGS[index];
                found.push(format!("{name}: {setting} {ours} here, {theirs} in the stream"));
            }
        }
        if found.len() > before || here.tags.contains_key(name) == there.tags.contains_key(name) {
            continue;
        }
        let [has, lacks] = match here.tags.contains_key(name) {
            true => ["here", "in the stream"],
            false => ["in the stream", "here"],
        };
        found.push(format!("{name}: declared {has}, not {lacks}"));
    }
    if here.memory != there.memory {
        let [ours, theirs] =
            [here, there].map(|kept| kept.memory.map_or("unknown".into(), size::exact));
        found.push(format!("max-memory {ours} here, {theirs} in the stream"));
    }
    let unknown = here.unknown.symmetric_difference(&there.unknown);
    found.extend(unknown.map(|line| format!("{line}: what only a newer server understands")));
    found
}

/// As it is configured.
fn show(index: usize, value: u64) -> String {
    match index % 3 {
        0 => value.to_string(),
        1 => duration_text::show(Duration::from_millis(value)),
        _ => size::exact(value),
    }
}

impl<'a> RetentionDifference<'a> {
    fn read(lines: &'a BTreeSet<String>) -> Self {
        let mut kept = Self::default();
        for line in lines {
            match line.split_once(": ").and_then(|(name, rest)| Some((name, numbers(rest)?))) {
                Some((TOGETHER, numbers)) if numbers.len() == 1 => kept.memory = Some(numbers[0]),
                Some((name, numbers)) if let Ok(numbers) = numbers.as_slice().try_into() => {
                    kept.tags.insert(name, numbers);
                }
                _ => {
                    kept.unknown.insert(line);
                }
            }
        }
        kept
    }

    fn of(&self, name: &str) -> &[u64; 6] {
        const NONE: &[u64; 6] = &[0; 6];
        self.tags.get(name).or_else(|| self.tags.get(OTHERS)).unwrap_or(NONE)
    }
}

/// Of `ring 100 3600000 ms 8388608 B, inbox 0 604800000 ms 1048576 B`. `None` with any other word.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    let values = words.filter(|word| !["ring", "inbox", "ms", "B"].contains(word));
    values.map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> BTreeSet<String> {
        lines.iter().map(|&line| line.into()).collect()
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
        let (none, pair) = (lines(&[]), lines(&["news:send"]));
        let words = between([&here, &pair], [&there, &none]).unwrap();
        assert_eq!(
            words,
            "news:send has a key here, none in the stream; \
             news: declared here, not in the stream; \
             shop: ring 100 here, 50 in the stream; \
             shop: ring-age 1 hour 30 minutes here, 1 hour in the stream; \
             shop: inbox-bytes 1MiB here, 1048577B in the stream; \
             max-memory 64MiB here, 256MiB in the stream; \
             beyond: ring 1: what only a newer server understands"
        );
        assert_eq!(between([&here, &pair], [&here, &pair]), None);
        let pairs: BTreeSet<String> = (10..30).map(|number| format!("t{number}:send")).collect();
        let words = between([&here, &none], [&here, &pairs]).unwrap();
        assert!(words.starts_with("t10:send has a key in the stream, none here; t11"), "{words}");
        assert!(words.ends_with("t17:send has a key in the stream, none here; and 12 more"));
    }
}
