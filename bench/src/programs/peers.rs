//! The programs that ours are compared with. `peers/peers.toml` describes them and how to start
//! them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use rustix::process::geteuid;
use serde::Deserialize;

use super::program::{Program, free_address};
use super::{cores, version_of_package};
use crate::options::Choice;
use crate::run::fill;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Peer {
    /// The name in tables.
    pub(crate) name: String,
    /// The name on the command line.
    pub(crate) option: String,
    help: String,
    /// The name of its Debian package.
    package: Option<String>,
    /// The name of its package for Node.
    npm: Option<String>,
    paths: Vec<PathBuf>,
    /// A file that the installed package must contain.
    needs: Option<PathBuf>,
    args: Vec<String>,
    root_args: Vec<String>,
    config: Option<String>,
    starts: Start,
}

/// How a program starts.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Start {
    #[default]
    InForeground,
    InBackground,
    /// The program announces its address on stdout.
    Announcing,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Peers {
    /// How builds of our gate are started.
    pub(crate) our_gate: Peer,
    /// The gates' peers. The first entry stands for no peer at all.
    pub(crate) gate: Vec<Peer>,
    /// The server and its peers. The first entry is our own server.
    pub(crate) server: Vec<Peer>,
}

pub(crate) static PEERS: LazyLock<Peers> = LazyLock::new(|| {
    toml::from_str(include_str!("../../peers/peers.toml")).expect("peers.toml is valid")
});

impl Choice for Peer {
    fn option(&self) -> &str {
        &self.option
    }

    fn help(&self) -> &str {
        &self.help
    }
}

impl Peer {
    /// Returns the version of the package. `peers` is the directory with the packages for Node.
    ///
    /// # Errors
    /// When the package is not installed.
    pub(crate) fn version(&self, peers: &Path) -> Result<String> {
        if let Some(package) = &self.package {
            let is_there = self.needs.as_ref().is_none_or(|file| file.is_file());
            let is_there = is_there && self.path().is_some();
            ensure!(is_there, "{} is missing: apt-get install {package}", self.name);
            return Ok(version_of_package(package));
        }
        let Some(package) = &self.npm else { return Ok(String::new()) };
        let file = peers.join("node_modules").join(package).join("package.json");
        let text = fs::read_to_string(&file).with_context(|| {
            format!("{package} is missing: npm ci --prefix {}", peers.display())
        })?;
        let version = text.lines().find_map(|line| line.trim().strip_prefix("\"version\": \""));
        Ok(version.and_then(|rest| rest.split('"').next()).unwrap_or("unknown").to_owned())
    }

    /// Whether the program is a build of ours, which the command line names.
    pub(crate) fn is_ours(&self) -> bool {
        self.option == "server"
    }

    fn path(&self) -> Option<PathBuf> {
        match (&self.package, &self.npm) {
            (Some(_), _) => self.paths.iter().find(|path| path.is_file()).cloned(),
            (None, Some(_)) => Some("node".into()),
            (None, None) => std::env::current_exe().ok(),
        }
    }

    /// Starts the program with everything that it writes in `directory`, and returns the address
    /// where it will listen. `build` is the program, if that is a build of ours; `values` are those
    /// that its arguments and its configuration name.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(
        &self,
        build: Option<&Path>,
        directory: &Path,
        mut values: Vec<(&str, String)>,
    ) -> Result<(Program, SocketAddr)> {
        let mut address = free_address()?;
        let config = directory.join(format!("{}.conf", self.option));
        values.extend([
            ("address", address.to_string()),
            ("port", address.port().to_string()),
            ("workers", cores().to_string()),
            ("directory", directory.display().to_string()),
            ("needs", self.needs.iter().map(|file| file.display().to_string()).collect()),
            ("config", config.display().to_string()),
        ]);
        if let Some(template) = &self.config {
            fs::write(&config, fill(template, &values)).context("cannot write a configuration")?;
        }
        let path = build.map(Path::to_owned).or_else(|| self.path());
        let mut command = Command::new(path.context("it is not installed")?);
        command.current_dir(directory).args(self.args.iter().map(|arg| fill(arg, &values)));
        if geteuid().is_root() {
            command.args(&self.root_args);
        }
        let mut program = Program::start(&self.name, command, directory)?;
        match self.starts {
            Start::InForeground => {}
            Start::InBackground => program.follow_daemon()?,
            Start::Announcing => {
                let [line] = program.announced(["listening "])?;
                let (_name, announced) = line.split_once(' ').context("it names no address")?;
                address = announced.parse()?;
            }
        }
        Ok((program, address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_valid() {
        assert_eq!(PEERS.gate.first().map(Choice::option), Some("none"));
        assert_eq!(PEERS.server.first().map(Choice::option), Some("server"));
        for peer in PEERS.gate.iter().chain(&PEERS.server).filter(|peer| !peer.args.is_empty()) {
            assert!(!peer.name.is_empty() && peer.package.is_some() != peer.paths.is_empty());
        }
    }
}
