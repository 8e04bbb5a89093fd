//! Programs that this one starts, and surely ends.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::process;

/// Time for a killed program to be gone.
const LIMIT: Duration = Duration::from_secs(10);

/// A running program. Dropping it ends it and its descendants.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    pid: u32,
    child: Child,
    errors: PathBuf,
    /// Our children before it was started. What becomes our child later is it or its orphan, as
    /// programs are started and ended in the manner of a stack.
    elders: Vec<u32>,
}

impl Program {
    /// Starts `command`; what it says on stderr goes to a file in `directory`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let errors = directory.join(format!("{name}.log"));
        let log = File::create(&errors).context("cannot write a log")?;
        let elders = process::children(std::process::id());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), pid: child.id(), child, errors, elders })
    }

    /// The process whose tree this is.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// What it announced on stdout behind `beginning`.
    ///
    /// # Errors
    /// When it ends without announcing that.
    pub(crate) fn announced(&mut self, beginning: &str) -> anyhow::Result<String> {
        let [rest] = self.all_announced([beginning])?;
        Ok(rest)
    }

    /// What it announced on stdout behind each of the beginnings, in any order.
    ///
    /// # Errors
    /// When it ends before it has announced all of that.
    pub(crate) fn all_announced<const N: usize>(
        &mut self,
        beginnings: [&str; N],
    ) -> anyhow::Result<[String; N]> {
        let output = self.child.stdout.take().context("its output was read already")?;
        let mut found = beginnings.map(|_| None);
        for line in BufReader::new(output).lines() {
            let line = line?;
            for (beginning, found) in beginnings.iter().zip(&mut found) {
                if let Some(rest) = line.strip_prefix(beginning) {
                    found.get_or_insert(rest.to_owned());
                }
            }
            if found.iter().all(Option::is_some) {
                return Ok(found.map(Option::unwrap_or_default));
            }
        }
        bail!("{} did not start: {}", self.name, self.last_words())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not, or says that something went wrong.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("cannot end it")?;
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{} ended badly: {}", self.name, self.last_words());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{} does not end: {}", self.name, self.last_words())
    }

    /// Follows a program that goes into the background: what was started ends at once, and its
    /// child becomes ours.
    ///
    /// # Errors
    /// When no child appears.
    pub(crate) fn follow_daemon(&mut self) -> anyhow::Result<()> {
        self.child.wait()?;
        match self.offspring()[..] {
            [daemon] => self.pid = daemon,
            _ => bail!("{} did not start: {}", self.name, self.last_words()),
        }
        Ok(())
    }

    fn offspring(&self) -> Vec<u32> {
        let mut children = process::children(std::process::id());
        children.retain(|child| !self.elders.contains(child));
        children
    }

    /// The end of what it said on stderr.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        if last.is_empty() { "it said nothing".to_owned() } else { last.join(" / ") }
    }
}

impl Drop for Program {
    /// Killed at once: their connections are closed by now, and nothing of theirs is kept.
    fn drop(&mut self) {
        let begun = Instant::now();
        let mut wanted: Vec<u32> = Vec::new();
        while begun.elapsed() < LIMIT {
            // Only what descends from this process is ever signalled: a number that is free again
            // may belong to anybody.
            let ours = process::tree(std::process::id());
            wanted.extend(self.offspring().into_iter().flat_map(process::tree));
            wanted.sort_unstable();
            wanted.dedup();
            wanted.retain(|pid| ours.contains(pid));
            if wanted.is_empty() {
                return;
            }
            for pid in wanted.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
                let _ = kill_process(pid, Signal::KILL);
                // Orphans become ours; before that, waiting for them fails, and comes again.
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
