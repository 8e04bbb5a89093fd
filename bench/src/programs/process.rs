//! CPU time and memory of a process and its descendants, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// A clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every Linux architecture in use.
const TICK: Duration = Duration::from_millis(10);

/// `root` and all its descendants, as they are now.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.get(pid).into_iter().flatten());
        next += 1;
    }
    found
}

/// The processes whose parent is `parent`, also those that have ended and were not waited for.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| Stat::read(*pid).is_some_and(|stat| stat.parent == parent);
    tree(parent).into_iter().filter(is_child).collect()
}

/// The fields of `/proc/PID/stat` that are used here.
struct Stat {
    parent: u32,
    cpu: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses, which may contain anything.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let parent = fields.get(1)?.parse().ok()?;
        let user: u32 = fields.get(11)?.parse().ok()?;
        let system: u32 = fields.get(12)?.parse().ok()?;
        Some(Self { parent, cpu: TICK * (user + system) })
    }
}

/// CPU time of a process since it began.
///
/// `stat` counts all threads, ended ones too, in ticks of 10 ms; `schedstat` counts nanoseconds,
/// but of living threads only. Both are lower bounds, so the larger one is nearer.
fn cpu(pid: u32) -> Option<Duration> {
    let ticks = Stat::read(pid)?.cpu;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let exact: u64 = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Some(ticks.max(Duration::from_nanos(exact)))
}

/// CPU time of a process tree from one moment on.
///
/// Processes that come and go count with what they had used when last sampled: httpGate starts
/// two for every connection and never waits for them, so that no parent inherits their times.
/// Sampling while their connections are still open misses no more than their exit.
pub(crate) struct Meter {
    root: u32,
    seen: HashMap<u32, Duration>,
    total: Duration,
}

impl Meter {
    pub(crate) fn start(root: u32) -> Self {
        let seen = tree(root).into_iter().filter_map(|pid| Some((pid, cpu(pid)?))).collect();
        Self { root, seen, total: Duration::ZERO }
    }

    /// CPU time since the start, as far as it was sampled.
    pub(crate) fn sample(&mut self) -> Duration {
        for pid in tree(self.root) {
            if let Some(now) = cpu(pid) {
                let before = self.seen.insert(pid, now).unwrap_or_default();
                self.total += now.saturating_sub(before);
            }
        }
        self.total
    }

    /// Microseconds of CPU since the start for each of `count` operations.
    pub(crate) fn micros_each(&mut self, count: f64) -> f64 {
        self.sample().as_secs_f64() * 1e6 / count
    }
}

/// Memory of a process tree, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Anonymous and shared memory; pages that several processes share count once in all.
    pub(crate) user: u64,
    /// Resident pages of every kind.
    pub(crate) resident: u64,
}

impl Memory {
    /// Of `root` and its descendants, now.
    ///
    /// # Errors
    /// When the program has ended or belongs to someone else.
    pub(crate) fn of_tree(root: u32) -> Result<Self> {
        ensure!(Stat::read(root).is_some(), "the program has ended");
        let mut sum = Self::default();
        for pid in tree(root) {
            match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
                Ok(text) => sum.add(&text),
                // Ended meanwhile, or ended and not waited for yet.
                Err(_) if pid != root => {}
                Err(error) => return Err(error).context("cannot read the program's memory"),
            }
        }
        Ok(sum)
    }

    /// Bytes of user memory beyond those of `before`.
    #[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
    pub(crate) fn user_since(self, before: Self) -> f64 {
        self.user as f64 - before.user as f64
    }

    /// Resident bytes beyond those of `before`.
    #[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
    pub(crate) fn resident_since(self, before: Self) -> f64 {
        self.resident as f64 - before.resident as f64
    }

    fn add(&mut self, rollup: &str) {
        for line in rollup.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(name), Some(kib)) = (words.next(), words.next()) else { continue };
            let bytes = kib.parse().map_or(0, |kib: u64| kib * 1024);
            match name {
                "Rss:" => self.resident += bytes,
                "Pss_Anon:" | "Pss_Shmem:" => self.user += bytes,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses() {
        let line = "7 (a) b (c) S 42 7 7 0 -1 4194560 1 2 3 4 150 50 9 9 20 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.cpu), (42, Duration::from_secs(2)));
    }

    #[test]
    fn memory_is_anonymous_and_shared() {
        let mut memory = Memory::default();
        memory.add("00-ff ---p 00000000 00:00 0   [rollup]\nRss: 10 kB\nPss_Anon: 3 kB\nPss_File: 5 kB\nPss_Shmem: 1 kB\n");
        assert_eq!(memory, Memory { user: 4 * 1024, resident: 10 * 1024 });
    }

    #[test]
    fn this_process_uses_cpu() {
        let mut meter = Meter::start(std::process::id());
        let mut sum = 0_u64;
        while meter.sample() < Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(Memory::of_tree(std::process::id()).unwrap().user > 0);
    }
}
