//! The server under load: a running one, or one that is started for the measurement.

pub(crate) mod fanout;
pub(crate) mod floor;
pub(crate) mod launch;
pub(crate) mod publish;
pub(crate) mod storm;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::process::Pid;
use tempfile::TempDir;

use crate::load::broadcast::Publisher;
use crate::load::target::{ClientProtocol, Target, Url};
use crate::options::one_of;
use crate::programs::Build;
use crate::programs::peers::{Peer, servers};
use crate::programs::program::Program;
use launch::Launch;

/// The tags of the comparisons: that of the load, and that of a healthy client meanwhile.
pub(crate) const TAG: &str = "bench";
pub(crate) const QUIET_TAG: &str = "bench-quiet";

/// Bytes of a message in the comparisons.
pub(crate) const MESSAGE_SIZE: u32 = 125;

/// Connections that are opened at the same time. With fewer, a program sleeps and wakes for each, which
/// costs CPU, too.
pub(crate) const AT_A_TIME: usize = 16;

/// Which server is loaded.
#[derive(Debug, Args)]
pub(crate) struct TargetOptions {
    /// A server that runs: ws://HOST:PORT/ws, or wss. Without this option, one is started
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

    /// Which program to start
    #[arg(long, default_value = "server", value_parser = one_of(servers()))]
    program: &'static Peer,

    /// The path of our server. The default is the one beside this program
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,

    #[command(flatten)]
    peers: PeersDir,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PeersDir {
    /// The directory with the programs for Node
    #[arg(long, value_name = "DIR", default_value = "bench/peers")]
    pub(crate) peers_dir: PathBuf,
}

/// A server that can be loaded. Dropping it ends the program that was started.
pub(crate) struct Server {
    pub(crate) target: Arc<Target>,
    pub(crate) url: String,
    /// Holds the key for publishing, if the server needs one.
    key_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    /// The root of its processes, if it runs here.
    pub(crate) pid: Option<Pid>,
    /// Where our server answers whether it is ready.
    admin: Option<SocketAddr>,
    program: Option<Program>,
    /// The directory is removed after the program has ended.
    _directory: Option<TempDir>,
}

impl Server {
    /// The server that the options name, or one that is started.
    ///
    /// # Errors
    /// When its address is not known, or it does not start.
    pub(crate) fn of(options: &TargetOptions, tags: &[String]) -> Result<Self> {
        let Some(url) = &options.url else {
            let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
            let mut build = options.server.clone().unwrap_or_default();
            if options.server.is_none() && options.program.is_ours() {
                build = Build::given_or_beside(&[], "server")?.remove(0).path;
            }
            let peers = &options.peers.peers_dir;
            let server = Self::start(options.program, &build, peers, directory.path(), tags)?;
            return Ok(Self { _directory: Some(directory), ..server });
        };
        let key = options.key_file.as_deref().map(first_line).transpose()?;
        Ok(Self {
            target: Arc::new(Target::at(url, key, options.ca.as_deref())?),
            url: url.to_string(),
            key_file: options.key_file.clone(),
            ca: options.ca.clone(),
            pid: options.pid.and_then(Pid::from_raw),
            admin: None,
            program: None,
            _directory: None,
        })
    }

    /// Starts a program for listeners on `tags`, and waits until it listens. `build` is our server.
    ///
    /// # Errors
    /// With the end of its stderr, when it does not start.
    pub(crate) fn start(
        kind: &Peer,
        build: &Path,
        peers: &Path,
        directory: &Path,
        tags: &[String],
    ) -> Result<Self> {
        if kind.is_ours() {
            return Launch { tags: tags.to_vec(), ..Launch::new(build, directory) }.start();
        }
        let peers = std::path::absolute(peers)?;
        let (program, address) =
            kind.start(None, directory, vec![("peers", peers.display().to_string())])?;
        if kind.option != "nchan" {
            return Ok(Self::started(program, Target::local(ClientProtocol::Actions, address)));
        }
        program.wait_for(address)?;
        let server = Self::started(program, Target::local(ClientProtocol::Nchan, address));
        // The answer to a listener that joins: the newest message of the channel.
        let mut publisher = Publisher::connect(&server.target)?;
        for tag in tags {
            publisher.publish(&[(tag, "{\"ok\":\"set\"}".to_owned())])?;
        }
        Ok(server)
    }

    fn started(program: Program, target: Target) -> Self {
        Self {
            url: format!("ws://{}/ws", target.address),
            target: Arc::new(target),
            key_file: None,
            ca: None,
            pid: Some(program.pid()),
            admin: None,
            program: Some(program),
            _directory: None,
        }
    }

    /// Asks the program to end, and waits until it has ended.
    pub(crate) fn stop(self) -> Result<()> {
        self.program.map_or(Ok(()), Program::stop)
    }
}

/// The tags of the comparisons.
pub(crate) fn tags() -> [String; 2] {
    [TAG.to_owned(), QUIET_TAG.to_owned()]
}

fn first_line(file: &Path) -> Result<String> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
