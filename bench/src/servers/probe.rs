//! A healthy client in a process of its own: what others do to this program does not delay it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::program::Program;

/// Begins the line that a probe ends with.
pub(crate) const LINE: &str = "latencies in ns: ";

/// One listener, and messages for it at a rate.
#[derive(Debug)]
pub(crate) struct Probe {
    program: Program,
}

/// What it saw, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Errand<'a> {
    /// Where: `ws://…`.
    pub(crate) url: String,
    pub(crate) tag: &'a str,
    pub(crate) key_file: Option<PathBuf>,
    /// Certificates to trust.
    pub(crate) ca: Option<PathBuf>,
    /// Messages a second.
    pub(crate) rate: u32,
    pub(crate) time: Duration,
}

impl Probe {
    /// Starts it. Two seconds pass before it measures.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(errand: &Errand<'_>, directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["fanout", "--brief", "--subscribers", "1", "--url", &errand.url])
            .args(["--tag", errand.tag, "--rate", &errand.rate.to_string()])
            .args(["--seconds", &errand.time.as_secs().to_string()]);
        if let Some(file) = &errand.key_file {
            command.arg("--key-file").arg(file);
        }
        if let Some(file) = &errand.ca {
            command.arg("--ca").arg(file);
        }
        Ok(Self { program: Program::start("probe", command, directory)? })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When one of its messages was lost.
    pub(crate) fn finish(mut self) -> anyhow::Result<Seen> {
        let line = self.program.announced(LINE).context("the healthy client")?;
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || anyhow::Ok(numbers.next().context("the healthy client said nothing")??);
        Ok(Seen { p50: next()?, p99: next()?, max: next()? })
    }
}
