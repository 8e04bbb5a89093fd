//! Starts and ends other programs, and reads their CPU time and memory from `/proc`.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use procfs::process::{MemoryMaps, Process, all_processes};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

/// How long a program may take to listen after its start.
pub(crate) const READY: Duration = Duration::from_secs(10);

/// How long a killed program may take to end.
const LIMIT: Duration = Duration::from_secs(10);

/// A running program. When this value is dropped, the program and its descendants are killed.
pub(crate) struct Program {
    name: String,
    /// The root of the program's process tree.
    pub(crate) pid: Pid,
    child: Child,
    errors: PathBuf,
    /// The children of this process before the program was started. A later child is the program or
    /// an orphan of it, because the program that was started last is ended first.
    earlier_children: Vec<Pid>,
}

impl Program {
    /// Starts `command`. Its stderr goes to a file in `directory`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let errors = directory.join(format!("{name}.log"));
        let log = File::create(&errors).context("cannot write a log")?;
        let earlier_children = children(getpid());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (name, pid) = (name.to_owned(), Pid::from_child(&child));
        Ok(Self { name, pid, child, errors, earlier_children })
    }

    /// Waits for the lines on stdout that begin with `starts`, in any order. Returns the text that
    /// follows each of these beginnings.
    ///
    /// # Errors
    /// When the program ends before it has written all of these lines.
    pub(crate) fn announced<const N: usize>(&mut self, starts: [&str; N]) -> Result<[String; N]> {
        let output = self.child.stdout.take().context("its output was read already")?;
        let mut found = starts.map(|_| None);
        for line in BufReader::new(output).lines() {
            let line = line?;
            for (beginning, found) in starts.iter().zip(&mut found) {
                if let Some(rest) = line.strip_prefix(beginning) {
                    found.get_or_insert(rest.to_owned());
                }
            }
            if found.iter().all(Option::is_some) {
                return Ok(found.map(Option::unwrap_or_default));
            }
        }
        self.failed("did not start")
    }

    /// Waits until `address` accepts a connection.
    ///
    /// # Errors
    /// When the program does not listen in time. The error contains the end of its stderr.
    pub(crate) fn wait_for(&self, address: SocketAddr) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begun.elapsed() > READY {
                return self.failed("does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits until the program has ended.
    ///
    /// # Errors
    /// When the program does not end in time, or ends with an error.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM).context("cannot end it")?;
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{} ended badly: {}", self.name, self.last_errors());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.failed("does not end")
    }

    /// Follows a program that goes into the background. The started process ends at once, and its
    /// child becomes a child of this process.
    ///
    /// # Errors
    /// When the program has left no child.
    pub(crate) fn follow_daemon(&mut self) -> Result<()> {
        self.child.wait()?;
        let [daemon] = self.offspring()[..] else { return self.failed("did not start") };
        self.pid = daemon;
        Ok(())
    }

    fn offspring(&self) -> Vec<Pid> {
        let mut offspring = children(getpid());
        offspring.retain(|child| !self.earlier_children.contains(child));
        offspring
    }

    fn failed<T>(&self, how: &str) -> Result<T> {
        bail!("{} {how}: {}", self.name, self.last_errors())
    }

    /// Returns the last lines of the program's stderr.
    pub(crate) fn last_errors(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        if last.is_empty() { "it reported nothing".to_owned() } else { last.join(" / ") }
    }
}

impl Drop for Program {
    /// Kills the program and its descendants at once. Their connections are closed by now, and
    /// their state is not needed any more.
    fn drop(&mut self) {
        let begun = Instant::now();
        let mut wanted: HashSet<Pid> = HashSet::new();
        while begun.elapsed() < LIMIT {
            // Only descendants of this process are ever signalled, because a process ID that is
            // free again may belong to an unrelated process.
            let ours = tree(getpid());
            wanted.extend(self.offspring().into_iter().flat_map(tree));
            wanted.retain(|pid| ours.contains(pid));
            if wanted.is_empty() {
                return;
            }
            for pid in &wanted {
                let _ = kill_process(*pid, Signal::KILL);
                // Orphans soon become children of this process. Until then `waitpid` fails and is
                // repeated.
                let _ = waitpid(Some(*pid), WaitOptions::NOHANG);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns an address that was free a moment ago, for programs that cannot report the address they
/// listen on.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

/// The length of a clock tick in `/proc/PID/stat`. `USER_HZ` is 100 on every Linux architecture in
/// use.
const TICK: Duration = Duration::from_millis(10);

/// Returns `root` and its current descendants.
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

/// Returns the processes whose parent is `parent`, including those that have ended but were not
/// waited for.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    children_in(&parents(), parent).collect()
}

fn children_in(parents: &[(Pid, i32)], parent: Pid) -> impl Iterator<Item = Pid> {
    let parent = parent.as_raw_nonzero().get();
    parents.iter().filter(move |process| process.1 == parent).map(|process| process.0)
}

/// Returns all processes, each with its parent.
fn parents() -> Vec<(Pid, i32)> {
    let processes = all_processes().into_iter().flatten().flatten();
    processes
        .filter_map(|process| Some((Pid::from_raw(process.pid())?, process.stat().ok()?.ppid)))
        .collect()
}

fn process(pid: Pid) -> Option<Process> {
    Process::new(pid.as_raw_nonzero().get()).ok()
}

/// Returns the CPU time of a process since it began.
///
/// `stat` counts all threads, including ended ones, in ticks of 10 ms. `schedstat` counts
/// nanoseconds, but only of living threads. Both are lower bounds, so the larger one is nearer.
fn cpu(pid: Pid) -> Option<Duration> {
    let process = process(pid)?;
    let stat = process.stat().ok()?;
    let ticks = TICK * u32::try_from(stat.utime + stat.stime).ok()?;
    let tasks = process.tasks().ok()?.flatten();
    let exact = tasks.filter_map(|task| Some(task.schedstat().ok()?.sum_exec_runtime)).sum();
    Some(ticks.max(Duration::from_nanos(exact)))
}

/// Measures the CPU time of a process tree from one moment on.
///
/// A process that has ended counts with the CPU time of its last sample. httpGate starts two
/// processes for every connection and never waits for them, so no parent inherits their times. If
/// they are sampled while their connections are still open, only the cost of their exit is missing.
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

    /// Returns the CPU time since the meter was started, including this sample.
    pub(crate) fn sample(&mut self) -> Duration {
        for pid in tree(self.root) {
            if let Some(now) = cpu(pid) {
                let before = self.seen.insert(pid, now).unwrap_or_default();
                self.total += now.saturating_sub(before);
            }
        }
        self.total
    }

    /// Samples, and returns the CPU time since the start in microseconds, divided by `count`
    /// operations.
    pub(crate) fn micros_each(&mut self, count: f64) -> f64 {
        self.sample().as_secs_f64() * 1e6 / count
    }
}

/// Memory of a process tree, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Memory {
    /// Anonymous and shared memory. A page that several processes share counts once in the sum.
    pub(crate) user: f64,
    /// Resident pages of every kind.
    pub(crate) resident: f64,
}

impl Memory {
    /// Returns the current memory of `root` and its descendants.
    ///
    /// # Errors
    /// When the program has ended or belongs to someone else.
    pub(crate) fn of_tree(root: Pid) -> Result<Self> {
        ensure!(process(root).is_some(), "the program has ended");
        let mut sum = Self::default();
        for pid in tree(root) {
            match process(pid).context("it has ended").and_then(|it| Ok(it.smaps_rollup()?)) {
                Ok(rollup) => sum.add(&rollup.memory_map_rollup),
                // The process has ended since its tree was read. It may still have to be waited
                // for.
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
