//! The server under load, which runs already or is started for the measurement.

pub(crate) mod fanout;
pub(crate) mod floor;
pub(crate) mod publish;
pub(crate) mod storm;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustix::process::Pid;
use tempfile::TempDir;

use crate::load::broadcast::Publisher;
use crate::load::senders::Senders;
use crate::load::target::{ClientProtocol, Target, Url};
use crate::options::one_of;
use crate::programs::Build;
use crate::programs::peers::{PEERS, Peer};
use crate::programs::program::Program;
use crate::run;
use publish::plan;

/// The tags of the comparisons: one for the load, and one for the healthy client.
pub(crate) const TAG: &str = "bench";
pub(crate) const QUIET_TAG: &str = "bench-quiet";

/// The size of a message in the comparisons, in bytes.
pub(crate) const MESSAGE_SIZE: u32 = 125;

/// The number of connections that are opened at the same time. With fewer, a program sleeps and
/// wakes for each connection, which costs CPU time.
pub(crate) const AT_A_TIME: usize = 16;

/// The options that choose the server to load.
#[derive(Debug, Args)]
pub(crate) struct TargetOptions {
    /// The URL of a running server: ws://HOST:PORT/ws, or wss. Without this option, a server is
    /// started
    #[arg(long, value_name = "URL", conflicts_with_all = ["program", "server"])]
    url: Option<Url>,

    /// A file of certificates to trust instead of those of this system
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,

    /// A file whose first line is the key for `broadcast`, if the tag needs one
    #[arg(long, value_name = "FILE", requires = "url")]
    key_file: Option<PathBuf>,

    /// The server's process, if it runs on this machine: its CPU and memory are measured
    #[arg(long, requires = "url")]
    pid: Option<i32>,

    /// The program to start
    #[arg(long, default_value = "server", value_parser = one_of(&PEERS.server))]
    program: &'static Peer,

    /// The path of our server. The default is the server in the directory of this program
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,

    /// The directory with the programs for Node
    #[arg(long, value_name = "DIR", default_value = "bench/peers")]
    peers_dir: PathBuf,
}

/// A server that the comparison starts.
pub(crate) struct Tested {
    pub(crate) kind: &'static Peer,
    /// The path of the program, if it is ours.
    pub(crate) build: PathBuf,
    pub(crate) peers_dir: PathBuf,
}

impl Tested {
    /// Starts the server for listeners on `tags`, and waits until it listens.
    ///
    /// # Errors
    /// When the server does not start. The error contains the end of its stderr.
    pub(crate) fn start(&self, directory: &Path, tags: &[String]) -> Result<Server> {
        if self.kind.is_ours() {
            return Launch { tags: tags.to_vec(), ..Launch::new(&self.build, directory) }.start();
        }
        let peers = std::path::absolute(&self.peers_dir)?.display().to_string();
        let (program, address) = self.kind.start(None, directory, vec![("peers", peers)])?;
        let target = |protocol| Target::local(protocol, address);
        if self.kind.option != "nchan" {
            return Ok(Server::running(Some(program), target(ClientProtocol::Actions)));
        }
        program.wait_for(address)?;
        let server = Server::running(Some(program), target(ClientProtocol::Nchan));
        // nchan sends a listener that joins the newest message of the channel, so one is published
        // first.
        let mut publisher = Publisher::connect(&server.target)?;
        for tag in tags {
            publisher.publish(&[(tag, "{\"ok\":\"set\"}".to_owned())])?;
        }
        Ok(server)
    }
}

/// A server that can be loaded. When this value is dropped, the program that was started for it
/// ends.
pub(crate) struct Server {
    pub(crate) target: Arc<Target>,
    pub(crate) url: String,
    /// The file with the key for publishing, if the server needs one.
    key_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    /// The root of the server's process tree, if it runs on this machine.
    pub(crate) pid: Option<Pid>,
    /// The address at which our server answers whether it is ready.
    admin: Option<SocketAddr>,
    program: Option<Program>,
    /// The directory is removed after the program has ended.
    _directory: Option<TempDir>,
}

impl Server {
    /// Returns the server that the options name, or starts one.
    ///
    /// # Errors
    /// When the server's address is not known, or the server does not start.
    pub(crate) fn of(options: &TargetOptions, tags: &[String]) -> Result<Self> {
        let Some(url) = &options.url else {
            let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
            let mut build = options.server.clone().unwrap_or_default();
            if options.server.is_none() && options.program.is_ours() {
                build = Build::given_or_beside(&[], "server")?.remove(0).path;
            }
            let tested =
                Tested { kind: options.program, build, peers_dir: options.peers_dir.clone() };
            let server = tested.start(directory.path(), tags)?;
            return Ok(Self { _directory: Some(directory), ..server });
        };
        let key = options.key_file.as_deref().map(first_line).transpose()?;
        let (url, target) = (url.to_string(), Target::at(url, key, options.ca.as_deref())?);
        let (key_file, ca) = (options.key_file.clone(), options.ca.clone());
        let pid = options.pid.and_then(Pid::from_raw);
        Ok(Self { url, key_file, ca, pid, ..Self::running(None, target) })
    }

    fn running(program: Option<Program>, target: Target) -> Self {
        Self {
            url: format!("ws://{}/ws", target.address),
            target: Arc::new(target),
            key_file: None,
            ca: None,
            pid: program.as_ref().map(|program| program.pid),
            admin: None,
            program,
            _directory: None,
        }
    }

    /// Sends SIGTERM to the program if this process started it, and waits until it has ended.
    pub(crate) fn stop(self) -> Result<()> {
        self.program.map_or(Ok(()), Program::stop)
    }
}

/// Returns the tags of the comparisons.
pub(crate) fn tags() -> [String; 2] {
    [TAG.to_owned(), QUIET_TAG.to_owned()]
}

fn first_line(file: &Path) -> Result<String> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The key for publishing. Without a key, the server limits how much strangers publish, and stores
/// none of their messages for clients that are away.
const KEY: &str = "bench-key-of-the-load-generator";

/// How long a server may take to become ready, including the time to read its stored messages.
const READY: Duration = Duration::from_secs(120);

/// The options with which our server is started.
pub(crate) struct Launch<'a> {
    pub(crate) server: &'a Path,
    /// The directory for the key file and for the program's stderr.
    pub(crate) directory: &'a Path,
    /// The tags on which publishing needs the key.
    pub(crate) tags: Vec<String>,
    pub(crate) more_options: &'a [String],
    /// The library to load before the C library.
    pub(crate) preload: Option<&'a Path>,
    /// Whether the server stores messages for clients that are away.
    pub(crate) keeps: bool,
}

impl<'a> Launch<'a> {
    /// Returns the options for the tags of the comparisons, with the server's defaults and without
    /// a data directory.
    pub(crate) fn new(server: &'a Path, directory: &'a Path) -> Self {
        let (tags, more_options) = (tags().to_vec(), &[]);
        Self { server, directory, tags, more_options, preload: None, keeps: true }
    }

    /// Starts the server, and waits until it listens.
    ///
    /// # Errors
    /// When the server does not start. The error contains the end of its stderr.
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
        if let Some(library) = self.preload {
            command.env("LD_PRELOAD", library);
        }
        command.args(self.more_options);
        let mut program = Program::start("server", command, self.directory)?;
        let [address, admin] = program.announced(["listening server ", "listening admin "])?;
        let mut target = Target::local(ClientProtocol::Actions, address.parse()?);
        target.key = Some(KEY.to_owned());
        let (key_file, admin) = (Some(key_file), Some(admin.parse()?));
        Ok(Server { key_file, admin, ..Server::running(Some(program), target) })
    }

    /// Starts the server, publishes `entries` messages and restarts the server. Returns the
    /// messages accepted a second, and the seconds from the second start until the server was
    /// ready.
    pub(crate) fn fill_and_restart(&self, entries: u64) -> Result<(f64, f64)> {
        let server = self.start()?;
        let mut senders = Senders::new(&server.target, plan(32))?;
        let begun = Instant::now();
        // The messages that are still unanswered now are already sent, and are accepted below.
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
        Ok((per_second, begun.elapsed().as_secs_f64()))
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
