//! The machine in general terms, and the versions of the programs that ran on it.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What a reader needs to know of the machine to judge the figures.
pub(crate) fn description() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The rest of the release names who built the kernel.
    let kernel = release.split(['-', '+']).next().unwrap_or_default().trim();
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    format!(
        "{} cores ({}), Linux {kernel} with {} congestion control, {}",
        cores(),
        value("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
        congestion.map_or_else(|_| unknown(), |text| text.trim().to_owned()),
        value("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(unknown),
    )
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The last word that `PROGRAM --version` prints.
pub(crate) fn version_of(program: &Path) -> String {
    let text = output(Command::new(program).arg("--version"));
    text.split_ascii_whitespace().last().map_or_else(unknown, str::to_owned)
}

/// The version of a Debian package.
pub(crate) fn version_of_package(name: &str) -> String {
    let text = output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]));
    Some(text.trim()).filter(|text| !text.is_empty()).map_or_else(unknown, str::to_owned)
}

fn output(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}

fn value(file: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(separator));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}
