//! Who takes part, and where: certificate, backend, ports, started programs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::set_child_subreaper;

use crate::certificate::Chain;
use crate::cli::Subject;
use crate::cli::gate::{GateOptions, Offer};
use crate::client::{Begin, Client};
use crate::gate::peers::Peer;
use crate::machine;
use crate::program::Program;
use crate::results::Role;

/// Time for a program to answer after its start.
const READY: Duration = Duration::from_secs(10);

/// What all programs of one run share.
pub(crate) struct Stage {
    directory: PathBuf,
    chain: Chain,
    offer: Offer,
    backend: SocketAddr,
    _echo: Program,
}

/// A program to measure.
pub(crate) enum Contender {
    Ours(Subject),
    Peer { peer: Peer, path: PathBuf },
}

/// A contender that runs and has answered once.
pub(crate) struct Running {
    program: Program,
    address: SocketAddr,
    offer: Offer,
}

impl Stage {
    /// Makes the certificate and starts the backend.
    ///
    /// # Errors
    /// When either fails.
    pub(crate) fn new(offer: Offer, directory: &Path) -> anyhow::Result<Self> {
        // Programs that go into the background become children of this one, which can end them.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let chain = Chain::make(directory)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["echo", "--with-parent"]);
        let mut echo = Program::start("echo", command, directory)?;
        let backend = echo.announced("listening echo ")?.parse()?;
        Ok(Self { directory: directory.to_owned(), chain, offer, backend, _echo: echo })
    }

    /// Our builds, then the peers.
    ///
    /// # Errors
    /// When one is not installed.
    pub(crate) fn contenders(&self, options: &GateOptions) -> anyhow::Result<Vec<Contender>> {
        let mut all: Vec<Contender> = if options.gates.is_empty() {
            vec![Contender::Ours(neighbour()?)]
        } else {
            options.gates.iter().cloned().map(Contender::Ours).collect()
        };
        for peer in options.peers.iter().copied().filter(|peer| *peer != Peer::None) {
            let path = peer.find().with_context(|| {
                format!("{} is missing: apt-get install {}", peer.name(), peer.package())
            })?;
            all.push(Contender::Peer { peer, path });
        }
        for contender in &all {
            if let Contender::Ours(subject) = contender {
                ensure!(subject.path.is_file(), "{} is no program", subject.path.display());
            }
        }
        Ok(all)
    }

    pub(crate) fn client(&self, running: &Running, begin: Begin) -> anyhow::Result<Client> {
        Client::new(&self.chain.root, running.offer, running.address, begin)
    }

    /// Starts a contender afresh and waits until one connection has gone through it.
    ///
    /// # Errors
    /// With its last words, when it does not come up.
    pub(crate) async fn start(&self, contender: &Contender) -> anyhow::Result<Running> {
        let running = match contender {
            Contender::Ours(subject) => self.start_ours(subject)?,
            Contender::Peer { peer, path } => self.start_peer(*peer, path)?,
        };
        let client = self.client(&running, Begin::Full)?;
        let begun = Instant::now();
        loop {
            match client.open().await {
                Ok(session) => {
                    session.close().await?;
                    return Ok(running);
                }
                Err(error) if begun.elapsed() > READY => {
                    bail!("does not answer: {error:#} ({})", running.program.last_words())
                }
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// With nothing but its three arguments, as users start it.
    fn start_ours(&self, subject: &Subject) -> anyhow::Result<Running> {
        let mut command = Command::new(&subject.path);
        command.arg("127.0.0.1:0").arg(self.backend.port().to_string()).arg(&self.chain.pem);
        let mut program = Program::start(&subject.name, command, &self.directory)?;
        let address = program.announced("listening gate ")?.parse()?;
        Ok(Running { program, address, offer: self.offer })
    }

    fn start_peer(&self, peer: Peer, path: &Path) -> anyhow::Result<Running> {
        let address = free_address()?;
        let command =
            peer.command(path, &self.directory, address.port(), self.backend, &self.chain.pem)?;
        let mut program = Program::start(peer.name(), command, &self.directory)?;
        if peer.is_daemon() {
            program.follow_daemon()?;
        }
        let group = peer.only_group().unwrap_or(self.offer.group);
        Ok(Running { program, address, offer: Offer { group, ..self.offer } })
    }
}

impl Contender {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Ours(subject) => &subject.name,
            Self::Peer { peer, .. } => peer.name(),
        }
    }

    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Ours(_) => Role::Ours,
            Self::Peer { .. } => Role::Peer,
        }
    }

    pub(crate) fn version(&self) -> String {
        match self {
            Self::Ours(subject) => machine::version_of(&subject.path),
            Self::Peer { peer, .. } => machine::version_of_package(peer.package()),
        }
    }
}

impl Running {
    /// The process whose tree is measured.
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The gate that was built together with this program.
pub(crate) fn neighbour() -> anyhow::Result<Subject> {
    let path = std::env::current_exe()?.with_file_name("gate");
    ensure!(
        path.is_file(),
        "no gate beside this program: build it (cargo build --release -p gate), or give --gate PATH"
    );
    Ok(Subject { name: "gate".to_owned(), path })
}

/// A port that was free a moment ago, for programs that cannot tell which one they took.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}
