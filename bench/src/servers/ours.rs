//! How our server is started.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use super::start::{Kind, Running};
use crate::load::target::{Dialect, Target};
use crate::program::Program;

/// The key for publishing: without one, the server counts strangers' messages, and keeps none for
/// those who are away.
const KEY: &str = "bench-key-of-the-load-generator";

/// What it is started with.
pub(crate) struct Launch<'a> {
    pub(crate) server: &'a Path,
    /// For the key and the log.
    pub(crate) directory: &'a Path,
    /// Publishing on these takes the key.
    pub(crate) tags: &'a [String],
    /// Where it keeps what was published.
    pub(crate) data: Option<&'a Path>,
    /// Whether it keeps anything for those who are away.
    pub(crate) keeps: bool,
}

impl<'a> Launch<'a> {
    /// As users start it who care for nothing.
    pub(crate) fn new(server: &'a Path, directory: &'a Path) -> Self {
        Self { server, directory, tags: &[], data: None, keeps: true }
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// With its last words, when it does not come up.
    pub(crate) fn start(&self) -> anyhow::Result<Running> {
        Ok(self.start_with_admin()?.0)
    }

    /// The same, with the address of its administrators' side.
    ///
    /// # Errors
    /// As [`Launch::start`].
    pub(crate) fn start_with_admin(&self) -> anyhow::Result<(Running, SocketAddr)> {
        let key_file = self.directory.join("key");
        fs::write(&key_file, KEY).context("cannot write the key")?;
        let config = self.directory.join("server.toml");
        let text = if self.keeps { "" } else { "ring = 0\ninbox = 0\n" };
        fs::write(&config, text).context("cannot write a configuration")?;
        let mut command = Command::new(self.server);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn"]);
        command.arg("--config").arg(&config);
        for tag in self.tags {
            for action in ["broadcast", "send"] {
                command.arg("--protect").arg(format!("{tag}:{action}:{}", key_file.display()));
            }
        }
        if let Some(data) = self.data {
            command.arg("--data").arg(data);
        }
        let mut program = Program::start(Kind::Server.name(), command, self.directory)?;
        let [address, admin] = program.all_announced(["listening server ", "listening admin "])?;
        let target = Target::local(Dialect::Actions, address.parse()?, Some(KEY.to_owned()));
        let running = Running { program, target: Arc::new(target), key_file: Some(key_file) };
        Ok((running, admin.parse()?))
    }
}

/// The server that was built together with this program.
///
/// # Errors
/// When there is none.
pub(crate) fn neighbour() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("server");
    ensure!(
        path.is_file(),
        "no server beside this program: build it (cargo build --release -p server), or give \
         --server PATH, or --url of one that runs"
    );
    Ok(path)
}
