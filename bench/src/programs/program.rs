//! Programs that this one starts, and ends whatever happens.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

use super::process;

/// Time for a program to listen after its start.
pub(crate) const READY: Duration = Duration::from_secs(10);

/// Time for a killed program to be gone.
const LIMIT: Duration = Duration::from_secs(10);

/// A running program. Dropping it ends it and its descendants.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    pid: Pid,
    child: Child,
    errors: PathBuf,
    /// Our children before this program was started. A later child of ours is this program or an
    /// orphan of it, because the program that was started last is ended first.
    earlier_children: Vec<Pid>,
}

impl Program {
    /// Starts `command`; its stderr goes to a file in `directory`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let errors = directory.join(format!("{name}.log"));
        let log = File::create(&errors).context("cannot write a log")?;
        let earlier_children = process::children(getpid());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (name, pid) = (name.to_owned(), Pid::from_child(&child));
        Ok(Self { name, pid, child, errors, earlier_children })
    }

    /// The process whose tree this is.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The rest of the lines on stdout that begin with `beginnings`, which may come in any order.
    ///
    /// # Errors
    /// When it ends before it has written all of them.
    pub(crate) fn announced<const N: usize>(
        &mut self,
        beginnings: [&str; N],
    ) -> Result<[String; N]> {
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
        bail!("{} did not start: {}", self.name, self.last_errors())
    }

    /// Waits until `address` can be connected to.
    ///
    /// # Errors
    /// With the end of its stderr, when it does not listen in time.
    pub(crate) fn wait_for(&self, address: SocketAddr) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(
                begun.elapsed() < READY,
                "{} does not listen: {}",
                self.name,
                self.last_errors()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// When it does not end, or ends with an error.
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
        bail!("{} does not end: {}", self.name, self.last_errors())
    }

    /// Follows a program that goes into the background: the process that was started ends at once,
    /// and its child becomes a child of this one.
    ///
    /// # Errors
    /// When there is no such child.
    pub(crate) fn follow_daemon(&mut self) -> Result<()> {
        self.child.wait()?;
        match self.offspring()[..] {
            [daemon] => self.pid = daemon,
            _ => bail!("{} did not start: {}", self.name, self.last_errors()),
        }
        Ok(())
    }

    fn offspring(&self) -> Vec<Pid> {
        let mut children = process::children(getpid());
        children.retain(|child| !self.earlier_children.contains(child));
        children
    }

    /// The last lines of its stderr.
    pub(crate) fn last_errors(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        if last.is_empty() { "it reported nothing".to_owned() } else { last.join(" / ") }
    }
}

impl Drop for Program {
    /// Kills the program and its descendants at once: their connections are closed by now, and
    /// nothing that they hold is needed.
    fn drop(&mut self) {
        let begun = Instant::now();
        let mut wanted: HashSet<Pid> = HashSet::new();
        while begun.elapsed() < LIMIT {
            // Only descendants of this process are ever signalled: a process ID that is free again
            // may belong to anybody.
            let ours = process::tree(getpid());
            wanted.extend(self.offspring().into_iter().flat_map(process::tree));
            wanted.retain(|pid| ours.contains(pid));
            if wanted.is_empty() {
                return;
            }
            for pid in &wanted {
                let _ = kill_process(*pid, Signal::KILL);
                // Orphans become our children soon; until then waiting fails and is repeated.
                let _ = waitpid(Some(*pid), WaitOptions::NOHANG);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An address that was free a moment ago, for programs that cannot report the one they chose.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}
