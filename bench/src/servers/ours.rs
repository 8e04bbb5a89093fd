//! How our server is started.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::start::{Kind, Running};
use crate::load::interrupt::Interrupt;
use crate::load::target::{Dialect, Target};
use crate::program::Program;

/// The key for publishing: without one, the server counts strangers' messages, and keeps none for
/// those who are away.
const KEY: &str = "bench-key-of-the-load-generator";

/// Time to be ready, with whatever it has to read.
const READY: Duration = Duration::from_secs(120);

/// What it is started with.
pub(crate) struct Launch<'a> {
    pub(crate) server: &'a Path,
    /// For the key and the log.
    pub(crate) directory: &'a Path,
    /// Publishing on these takes the key.
    pub(crate) tags: &'a [String],
    /// Where it keeps what was published.
    pub(crate) data: Option<&'a Path>,
    /// Further options.
    pub(crate) more: &'a [String],
    /// A library to be loaded into it before the C library.
    pub(crate) preload: Option<&'a Path>,
    /// Whether it keeps anything for those who are away.
    pub(crate) keeps: bool,
}

impl<'a> Launch<'a> {
    /// As users start it who care for nothing.
    pub(crate) fn new(server: &'a Path, directory: &'a Path) -> Self {
        Self { server, directory, tags: &[], data: None, more: &[], preload: None, keeps: true }
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
        if let Some(library) = self.preload {
            command.env("LD_PRELOAD", library);
        }
        command.args(self.more);
        let mut program = Program::start(Kind::Server.name(), command, self.directory)?;
        let [address, admin] = program.all_announced(["listening server ", "listening admin "])?;
        let target = Target::local(Dialect::Actions, address.parse()?, Some(KEY.to_owned()));
        let running = Running { program, target: Arc::new(target), key_file: Some(key_file) };
        Ok((running, admin.parse()?))
    }
}

/// Waits for a server that was started at `begun`.
///
/// # Errors
/// When it is not ready in time.
pub(crate) fn until_ready(
    admin: SocketAddr,
    begun: Instant,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    while !is_ready(admin) {
        interrupt.check()?;
        ensure!(begun.elapsed() < READY, "not ready after {READY:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(admin)?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
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
