//! How our server is started.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::publish::plan;
use super::{Server, tags};
use crate::load::senders::Senders;
use crate::load::target::{ClientProtocol, Target};
use crate::programs::program::Program;
use crate::run;

/// The key for publishing. Without a key the server limits how much strangers publish, and keeps none
/// of it for clients that are away.
const KEY: &str = "bench-key-of-the-load-generator";

/// How long a start may take, which includes reading the stored messages.
const READY: Duration = Duration::from_secs(120);

/// The options of a start.
pub(crate) struct Launch<'a> {
    pub(crate) server: &'a Path,
    /// The directory for the key and the stderr.
    pub(crate) directory: &'a Path,
    /// The tags on which publishing needs the key.
    pub(crate) tags: Vec<String>,
    /// Where messages are kept on disk.
    pub(crate) data: Option<&'a Path>,
    pub(crate) more_options: &'a [String],
    /// A library to load before the C library.
    pub(crate) preload: Option<&'a Path>,
    /// Whether it keeps messages for clients that are away.
    pub(crate) keeps: bool,
}

/// What filling a log and reading it again took.
pub(crate) struct Restart {
    /// Messages accepted a second.
    pub(crate) per_second: f64,
    /// Seconds from the start until the server was ready.
    pub(crate) seconds: f64,
}

impl<'a> Launch<'a> {
    /// A start for the tags of the comparisons, with the server's defaults, and in memory only.
    pub(crate) fn new(server: &'a Path, directory: &'a Path) -> Self {
        let (tags, more_options) = (tags().to_vec(), &[]);
        Self { server, directory, tags, data: None, more_options, preload: None, keeps: true }
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// With the end of its stderr, when it does not start.
    pub(crate) fn start(&self) -> Result<Server> {
        let [key_file, config] = ["key", "server.toml"].map(|name| self.directory.join(name));
        fs::write(&key_file, KEY).context("cannot write the key")?;
        let text = if self.keeps { "" } else { "ring = 0\ninbox = 0\n" };
        fs::write(&config, text).context("cannot write a configuration")?;
        let mut command = Command::new(self.server);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn"]);
        command.arg("--config").arg(&config);
        for tag in &self.tags {
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
        command.args(self.more_options);
        let mut program = Program::start("server", command, self.directory)?;
        let [address, admin] = program.announced(["listening server ", "listening admin "])?;
        let mut target = Target::local(ClientProtocol::Actions, address.parse()?);
        target.key = Some(KEY.to_owned());
        let (key_file, admin) = (Some(key_file), Some(admin.parse()?));
        Ok(Server { key_file, admin, ..Server::started(program, target) })
    }

    /// Starts it, publishes `entries` messages and restarts it.
    pub(crate) fn fill_and_restart(&self, entries: u64) -> Result<Restart> {
        let server = self.start()?;
        let mut senders = Senders::new(&server.target, plan(32))?;
        let begun = Instant::now();
        // The messages in flight come on top.
        senders.send_until(|accepted| accepted.sent >= entries)?;
        senders.finish()?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let per_second = entries as f64 / begun.elapsed().as_secs_f64();
        server.stop()?;
        let begun = Instant::now();
        let server = self.start()?;
        let admin = server.admin.context("the server has no address for administrators")?;
        while !is_ready(admin) {
            run::check_interrupt()?;
            ensure!(begun.elapsed() < READY, "not ready after {READY:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Restart { per_second, seconds: begun.elapsed().as_secs_f64() })
    }
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
