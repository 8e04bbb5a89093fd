//! CPU time and memory of a process and its descendants, from `/proc`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use procfs::process::{MemoryMaps, Process, all_processes};
use rustix::process::Pid;

/// A clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every Linux architecture in use.
const TICK: Duration = Duration::from_millis(10);

/// `root` and all its descendants, as they are now.
pub(crate) fn tree(root: Pid) -> Vec<Pid> {
    let parents = parents();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(children_in(&parents, parent));
        next += 1;
    }
    found
}

/// The processes whose parent is `parent`, also those that have ended and were not waited for.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    children_in(&parents(), parent).collect()
}

fn children_in(parents: &[(Pid, i32)], parent: Pid) -> impl Iterator<Item = Pid> {
    let parent = parent.as_raw_nonzero().get();
    parents.iter().filter(move |process| process.1 == parent).map(|process| process.0)
}

/// All processes and the parents of each.
fn parents() -> Vec<(Pid, i32)> {
    let processes = all_processes().into_iter().flatten().flatten();
    processes
        .filter_map(|process| Some((Pid::from_raw(process.pid())?, process.stat().ok()?.ppid)))
        .collect()
}

fn process(pid: Pid) -> Option<Process> {
    Process::new(pid.as_raw_nonzero().get()).ok()
}

/// CPU time of a process since it began.
///
/// `stat` counts all threads, ended ones too, in ticks of 10 ms; `schedstat` counts nanoseconds,
/// but of living threads only. Both are lower bounds, so the larger one is nearer.
fn cpu(pid: Pid) -> Option<Duration> {
    let process = process(pid)?;
    let stat = process.stat().ok()?;
    let ticks = TICK * u32::try_from(stat.utime + stat.stime).ok()?;
    let tasks = process.tasks().ok()?.flatten();
    let exact = tasks.filter_map(|task| Some(task.schedstat().ok()?.sum_exec_runtime)).sum();
    Some(ticks.max(Duration::from_nanos(exact)))
}

/// CPU time of a process tree from one moment on.
///
/// Processes that come and go count with what they had used when last sampled: httpGate starts
/// two for every connection and never waits for them, so that no parent inherits their times.
/// Sampling while their connections are still open misses no more than their exit.
pub(crate) struct Meter {
    root: Pid,
    seen: HashMap<Pid, Duration>,
    total: Duration,
}

impl Meter {
    pub(crate) fn start(root: Pid) -> Self {
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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Memory {
    /// Anonymous and shared memory; pages that several processes share count once in all.
    pub(crate) user: f64,
    /// Resident pages of every kind.
    pub(crate) resident: f64,
}

impl Memory {
    /// Of `root` and its descendants, now.
    ///
    /// # Errors
    /// When the program has ended or belongs to someone else.
    pub(crate) fn of_tree(root: Pid) -> Result<Self> {
        ensure!(process(root).is_some(), "the program has ended");
        let mut sum = Self::default();
        for pid in tree(root) {
            match process(pid).context("it has ended").and_then(|it| Ok(it.smaps_rollup()?)) {
                Ok(rollup) => sum.add(&rollup.memory_map_rollup),
                // Ended meanwhile, or ended and not waited for yet.
                Err(_) if pid != root => {}
                Err(error) => return Err(error).context("cannot read the program's memory"),
            }
        }
        Ok(sum)
    }

    fn add(&mut self, maps: &MemoryMaps) {
        for map in &maps.0 {
            let bytes = |name| map.extension.map.get(name).map_or(0.0, |bytes| *bytes as f64);
            self.resident += bytes("Rss");
            self.user += bytes("Pss_Anon") + bytes("Pss_Shmem");
        }
    }
}

#[cfg(test)]
mod tests {
    use procfs::FromRead as _;
    use rustix::process::getpid;

    use super::*;

    #[test]
    fn memory_is_anonymous_and_shared() {
        let mut memory = Memory::default();
        let rollup = "00-ff ---p 00000000 00:00 0   [rollup]\nRss: 10 kB\nPss_Anon: 3 kB\nPss_File: 5 kB\nPss_Shmem: 1 kB\n";
        memory.add(&MemoryMaps::from_read(rollup.as_bytes()).unwrap());
        assert_eq!(memory, Memory { user: 4.0 * 1024.0, resident: 10.0 * 1024.0 });
    }

    #[test]
    fn this_process_uses_cpu() {
        let mut meter = Meter::start(getpid());
        let mut sum = 0_u64;
        while meter.sample() < Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(Memory::of_tree(getpid()).unwrap().user > 0.0);
    }
}
