//! The measured programs (our builds and their peers), and the machine that runs them.

pub(crate) mod peers;
pub(crate) mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// A build of one of our programs, with its name in the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Build {
    pub(crate) fn gate(text: &str) -> Result<Self, String> {
        Self::parse(text, "gate")
    }

    pub(crate) fn server(text: &str) -> Result<Self, String> {
        Self::parse(text, "server")
    }

    /// Reads `[NAME=]PATH`. Without a name, the build is called `default`.
    fn parse(text: &str, default: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').unwrap_or((default, text));
        if name.is_empty() || path.is_empty() {
            return Err("give PATH, or NAME=PATH".to_owned());
        }
        Ok(Self { name: name.to_owned(), path: path.into() })
    }

    /// Returns the builds that the user gave, or else the program `name` in the directory of this
    /// program.
    ///
    /// # Errors
    /// When one of these paths is not a file.
    pub(crate) fn given_or_beside(given: &[Self], name: &str) -> Result<Vec<Self>> {
        if given.is_empty() {
            let path = std::env::current_exe()?.with_file_name(name);
            let advice = format!("cargo build --release -p {name}, or give --{name} PATH");
            ensure!(path.is_file(), "no {name} beside this program: {advice}");
            return Ok(vec![Self { name: name.to_owned(), path }]);
        }
        for build in given {
            ensure!(build.path.is_file(), "{} is not a program", build.path.display());
        }
        Ok(given.to_vec())
    }
}

/// The facts about the machine that a reader needs to judge the figures.
pub(crate) fn description() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The release ends with a name of who built the kernel, which is left out.
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

/// Returns the number of cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `PROGRAM --version` and returns the last word that it prints.
pub(crate) fn version_of(program: &Path) -> String {
    let text = output(Command::new(program).arg("--version"));
    text.split_ascii_whitespace().last().map_or_else(unknown, str::to_owned)
}

/// Returns the version of an installed Debian package.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_have_names() {
        let named = Build::gate("mimalloc=/opt/gate").unwrap();
        assert_eq!(
            (named.name.as_str(), named.path.as_os_str()),
            ("mimalloc", "/opt/gate".as_ref())
        );
        assert_eq!(Build::gate("/opt/gate").unwrap().name, "gate");
        assert!(Build::gate("=x").is_err());
    }
}
