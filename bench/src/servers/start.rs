//! Which servers there are, and how each is started.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;

use super::ours::Launch;
use crate::load::publisher::Publisher;
use crate::load::target::{Dialect, Target};
use crate::machine;
use crate::program::Program;

/// Time for a program to answer after its start.
const READY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The server beside this program
    Server,
    /// uWebSockets, from Node
    Uws,
    /// ws, the WebSocket server of most Node programs
    Ws,
    /// nchan, a module of nginx
    Nchan,
    /// One blocking write for each delivery, and nothing else
    Floor,
}

impl Kind {
    pub(crate) const OTHERS: [Self; 4] = [Self::Uws, Self::Nchan, Self::Ws, Self::Floor];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Uws => "uWebSockets",
            Self::Ws => "ws",
            Self::Nchan => "nchan",
            Self::Floor => "floor",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Uws => "uws",
            other => other.name(),
        })
    }
}

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// For configurations and logs.
    pub(crate) directory: PathBuf,
    /// Our server.
    pub(crate) server: PathBuf,
    /// The programs for Node, with what they need.
    pub(crate) peers: PathBuf,
}

/// A server that runs and answers.
pub(crate) struct Running {
    pub(crate) program: Program,
    pub(crate) target: Arc<Target>,
    /// Holds the key for publishing, where that needs one.
    pub(crate) key_file: Option<PathBuf>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.target.address())
    }
}

/// Starts it afresh and waits until it listens. People will listen on `tags`.
///
/// # Errors
/// With its last words, when it does not come up.
pub(crate) fn start(kind: Kind, places: &Places, tags: &[String]) -> anyhow::Result<Running> {
    match kind {
        Kind::Server => Launch { tags, ..Launch::new(&places.server, &places.directory) }.start(),
        Kind::Uws | Kind::Ws => {
            let script = places.peers.join(format!("{kind}.js"));
            let mut command = Command::new("node");
            command.arg(&script);
            announced(kind, command, places)
        }
        Kind::Floor => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("floor");
            announced(kind, command, places)
        }
        Kind::Nchan => nchan(places, tags),
    }
}

/// A program that says where it listens.
fn announced(kind: Kind, command: Command, places: &Places) -> anyhow::Result<Running> {
    let mut program = Program::start(kind.name(), command, &places.directory)?;
    let line = program.announced("listening ")?;
    let address = line.split_once(' ').context("it does not say where it listens")?.1.parse()?;
    let target = Arc::new(Target::local(Dialect::Actions, address, None));
    Ok(Running { program, target, key_file: None })
}

/// Debian's nginx with its module nchan, a worker per core as our server has a shard per core. Who
/// joins is handed the newest message of the channel at once: that is this server's answer.
fn nchan(places: &Places, tags: &[String]) -> anyhow::Result<Running> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    let address = listener.local_addr()?;
    drop(listener);
    let directory = places.directory.display();
    let config = format!(
        "load_module {NCHAN};\ndaemon off;\nworker_processes {};\n\
         pid {directory}/nginx.pid;\nlock_file {directory}/nginx.lock;\n\
         error_log stderr warn;\nworker_rlimit_nofile 40000;\n\
         events {{ worker_connections 30000; }}\n\
         http {{ access_log off; client_body_temp_path {directory}/body;\n\
         proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;\n\
         uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;\n\
         keepalive_requests 1000000000; keepalive_timeout 10m; nchan_max_reserved_memory 256m;\n\
         server {{ listen {address} backlog=4096;\n\
         location ~ ^/sub/(.+)$ {{ nchan_subscriber websocket; nchan_channel_id $1;\n\
         nchan_subscriber_first_message -1; }}\n\
         location ~ ^/pub/(.+)$ {{ nchan_publisher http; nchan_channel_id $1; }} }} }}\n",
        machine::cores()
    );
    let file = places.directory.join("nchan.conf");
    fs::write(&file, config).context("cannot write a configuration")?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.args(["-e", "stderr", "-p"]).arg(&places.directory).arg("-c").arg(&file);
    let program = Program::start(Kind::Nchan.name(), command, &places.directory)?;
    wait_for(address, &program)?;
    let target = Arc::new(Target::local(Dialect::Nchan, address, None));
    let mut publisher = Publisher::connect(&target)?;
    for tag in tags {
        publisher.publish(&[(tag, "{\"ok\":\"set\"}".to_owned())])?;
    }
    Ok(Running { program, target, key_file: None })
}

/// The version of what `kind` is.
///
/// # Errors
/// When it is not installed.
pub(crate) fn version(kind: Kind, places: &Places) -> anyhow::Result<String> {
    match kind {
        Kind::Server => Ok(machine::version_of(&places.server)),
        Kind::Floor => Ok(String::new()),
        Kind::Nchan => {
            ensure!(
                Path::new(NCHAN).is_file(),
                "nchan is missing: apt-get install libnginx-mod-nchan"
            );
            Ok(machine::version_of_package("libnginx-mod-nchan"))
        }
        Kind::Uws => package(places, "@trufflesuite/uws-js-unofficial"),
        Kind::Ws => package(places, "ws"),
    }
}

/// The version of a package for Node.
fn package(places: &Places, name: &str) -> anyhow::Result<String> {
    let file = places.peers.join("node_modules").join(name).join("package.json");
    let text = fs::read_to_string(&file).with_context(|| {
        format!("{name} is missing: npm ci --prefix {}", places.peers.display())
    })?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("\"version\": \""));
    let version = version.and_then(|rest| rest.split('"').next());
    Ok(version.unwrap_or("unknown").to_owned())
}

fn wait_for(address: SocketAddr, program: &Program) -> anyhow::Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > READY {
            bail!("does not answer ({})", program.last_words());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Debian's nginx loads it from here.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// Where the peers' programs are, seen from the top of the sources.
pub(crate) fn default_peers() -> &'static str {
    "bench/peers"
}
