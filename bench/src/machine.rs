//! The machine in general terms, and the versions of what ran on it.

use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

/// Facts that a reader needs to judge the figures.
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) system: String,
    pub(crate) openssl: String,
    pub(crate) congestion: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // The rest of the release names who built it.
        let kernel = release.split(['-', '+']).next().unwrap_or_default().trim().to_owned();
        Self {
            cores: cores(),
            processor: value("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
            kernel,
            system: value("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(unknown),
            openssl: version_of_package("libssl3"),
            congestion: fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, system, congestion, .. } = self;
        write!(
            f,
            "{cores} cores ({processor}), Linux {kernel} with {congestion} congestion control, \
             {system}"
        )
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What `PROGRAM --version` says behind its name.
pub(crate) fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let words = text.unwrap_or_default();
    words.split_ascii_whitespace().last().map_or_else(unknown, str::to_owned)
}

/// The version of a Debian package.
pub(crate) fn version_of_package(name: &str) -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(unknown)
}

fn value(file: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(key, _)| key.trim() == name)?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}
