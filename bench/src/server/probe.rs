//! A healthy client in a process of its own, so that the work of this program does not delay it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Server;
use crate::programs::program::Program;

/// Begins the line with the median, the 99th percentile and the maximum.
pub(crate) const LINE: &str = "latencies in ns: ";

/// The healthy client's messages a second.
const RATE: u32 = 100;

/// Time to start and to warm up.
pub(crate) const PROBE_WARM_UP: Duration = Duration::from_millis(2_500);

/// One listener of a tag, and a publisher for it.
#[derive(Debug)]
pub(crate) struct Probe(Program);

impl Probe {
    /// Starts it. It measures for `time`, after two seconds of the same load.
    pub(crate) fn start(
        server: &Server,
        tag: &str,
        time: Duration,
        directory: &Path,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["fanout", "--brief", "--subscribers", "1", "--url", &server.url])
            .args(["--tag", tag, "--rate", &RATE.to_string()])
            .args(["--seconds", &time.as_secs().to_string()]);
        for (option, file) in [("--key-file", &server.key_file), ("--ca", &server.ca)] {
            if let Some(file) = file {
                command.arg(option).arg(file);
            }
        }
        Ok(Self(Program::start("probe", command, directory)?))
    }

    /// Waits for its end. Answers the median, the 99th percentile and the maximum of its latencies, in
    /// nanoseconds.
    ///
    /// # Errors
    /// When one of its messages was lost.
    pub(crate) fn finish(mut self) -> Result<[u64; 3]> {
        let [line] = self.0.announced([LINE]).context("the healthy client")?;
        let times = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        times.try_into().ok().context("the healthy client printed no latencies")
    }
}
