//! Compares the gate with its peers.

pub(crate) mod cases;
mod client;
pub(crate) mod echo;
pub(crate) mod slow_handshakes;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustix::process::set_child_subreaper;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use crate::compare::{CompareOptions, ours, theirs};
use crate::options::{names, one_of};
use crate::programs::peers::{PEERS, Peer};
use crate::programs::program::{Program, READY};
use crate::programs::{Build, version_of_package};
use crate::run;
use cases::{GateLoad, Loaded};
use client::{Client, Endpoint, Group, HOST, Handshake, Offer, Suite};

#[derive(Args)]
pub(crate) struct GateOptions {
    /// The path of the gate, or several builds if the option is repeated. The default is the gate
    /// in the directory of this program
    #[arg(long = "gate", value_name = "[NAME=]PATH", value_parser = Build::gate)]
    gates: Vec<Build>,

    /// The programs to compare with; `none` for the gate alone
    #[arg(long, value_delimiter = ',', default_values = names(&PEERS.gate[1..]), value_parser = one_of(&PEERS.gate))]
    pub(crate) peers: Vec<&'static Peer>,

    /// The only cipher suite that the client offers
    #[arg(long, default_value = "aes128")]
    suite: Suite,

    /// The only key exchange group that the client offers. httpGate supports only P-256 and is
    /// always offered that group
    #[arg(long, default_value = "p256")]
    group: Group,

    #[command(flatten)]
    load: GateLoad,

    #[command(flatten)]
    pub(crate) compare: CompareOptions<Loaded>,
}

/// Runs the comparison, prints the figures, and writes the files that the options ask for.
///
/// # Errors
/// When a program is missing or fails.
pub(crate) fn run(options: &GateOptions) -> Result<()> {
    let load = options.load;
    // Each connection needs two open files in the measured program and one in this program.
    run::ensure_open_files(load.idle as usize * 2 + 800, "idle connections", "give --idle less")?;
    let environment = Environment::new(Offer { suite: options.suite, group: options.group })?;
    let loaded = |kind, build| {
        let gate = Gate { environment: Arc::clone(&environment), kind, build };
        Loaded { gate, load }
    };
    let builds = Build::given_or_beside(&options.gates, "gate")?;
    let mut programs = ours(builds, |path| loaded(&PEERS.our_gate, Some(path)));
    for peer in options.peers.iter().filter(|peer| peer.option != "none") {
        programs.push((theirs(peer, Path::new(""))?, loaded(peer, None)));
    }
    let values = || values(options, &environment);
    options.compare.run(programs, &std::env::temp_dir(), values)
}

/// Returns the values for the page's text about how gates are measured.
fn values(options: &GateOptions, environment: &Environment) -> Vec<(&'static str, String)> {
    let suite = match options.suite {
        Suite::Aes128 => "TLS13_AES_128_GCM_SHA256 (which browsers offer first)",
        Suite::Aes256 => "TLS13_AES_256_GCM_SHA384",
    };
    let group = match options.group {
        Group::P256 => "P-256",
        Group::X25519 => "X25519 (httpGate P-256, as it knows no other group)",
    };
    let peers: Vec<String> = environment.closed_abruptly.lock().iter().cloned().collect();
    let closed_abruptly = match peers[..] {
        [] => String::new(),
        _ => format!("- Closed without `close_notify`: {}.\n", peers.join(", ")),
    };
    let load = options.load;
    vec![
        ("suite", suite.to_owned()),
        ("group", group.to_owned()),
        ("openssl", version_of_package("libssl3")),
        ("handshakes", load.handshakes.to_string()),
        ("at_a_time", load.at_a_time.to_string()),
        ("round_trips", load.round_trips.to_string()),
        ("bulk", load.bulk.to_string()),
        ("idle", load.idle.to_string()),
        ("slow_handshakes", slow_handshakes::HANDSHAKES.to_string()),
        ("closed_abruptly", closed_abruptly),
    ]
}

/// The certificates, the offer and the backend, which all gates of a run share.
pub(crate) struct Environment {
    chain: Chain,
    offer: Offer,
    backend: SocketAddr,
    _echo: Program,
    _directory: TempDir,
    /// The names of the gates that closed a connection without `close_notify`.
    pub(crate) closed_abruptly: Mutex<BTreeSet<String>>,
}

/// A gate to measure.
pub(crate) struct Gate {
    pub(crate) environment: Arc<Environment>,
    pub(crate) kind: &'static Peer,
    /// The path of the gate, if it is one of our builds.
    pub(crate) build: Option<PathBuf>,
}

/// A running gate that has already forwarded a connection.
pub(crate) struct RunningGate {
    pub(crate) program: Program,
    pub(crate) endpoint: Endpoint,
}

impl Environment {
    /// Makes the certificate and starts the backend.
    pub(crate) fn new(offer: Offer) -> Result<Arc<Self>> {
        // Programs that go into the background become children of this process, which can then end
        // them.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let chain = Chain::make(directory.path())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["echo", "--with-parent"]);
        let mut echo = Program::start("echo", command, directory.path())?;
        let [backend] = echo.announced(["listening echo "])?;
        let (backend, closed_abruptly) = (backend.parse()?, Mutex::default());
        let (_echo, _directory) = (echo, directory);
        Ok(Arc::new(Self { chain, offer, backend, _echo, _directory, closed_abruptly }))
    }
}

impl Gate {
    /// Starts the gate, and waits until it has forwarded a connection.
    ///
    /// # Errors When the gate does not start; the error contains the end of its stderr.
    pub(crate) async fn start(&self, directory: &Path) -> Result<RunningGate> {
        let Environment { chain, backend, offer, .. } = &*self.environment;
        let mut offer = *offer;
        let values = vec![
            ("backend", backend.to_string()),
            ("backend_ip", backend.ip().to_string()),
            ("backend_port", backend.port().to_string()),
            ("pem", chain.pem.display().to_string()),
        ];
        let (program, address) = self.kind.start(self.build.as_deref(), directory, values)?;
        // httpGate configures the curve P-256, and OpenSSL then accepts no other group.
        if self.kind.option == "httpgate" {
            offer.group = Group::P256;
        }
        let (root, closed_abruptly) = (chain.root.clone(), Arc::default());
        let endpoint = Endpoint { address, offer, root, closed_abruptly };
        let client = Client::new(&endpoint, Handshake::Full)?;
        let begun = Instant::now();
        loop {
            match client.open().await {
                Ok(session) => {
                    session.close().await?;
                    return Ok(RunningGate { program, endpoint });
                }
                Err(error) if begun.elapsed() > READY => {
                    bail!("does not answer: {error:#} ({})", program.last_errors())
                }
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Notes the name of a peer that closed connections without `close_notify`.
    ///
    /// # Errors
    /// When a gate of ours omitted `close_notify`.
    pub(crate) fn note(&self, gate: &RunningGate) -> Result<()> {
        if gate.endpoint.closed_abruptly.load(Ordering::Relaxed) {
            ensure!(self.build.is_none(), "a connection was closed without close_notify");
            self.environment.closed_abruptly.lock().insert(self.kind.name.clone());
        }
        Ok(())
    }
}

/// The certificates and the key that every program serves in one file: leaf, intermediate and leaf
/// key. All keys are P-256.
pub(crate) struct Chain {
    pub(crate) pem: PathBuf,
    /// The certificate that the client trusts.
    pub(crate) root: CertificateDer<'static>,
}

impl Chain {
    /// Makes the certificates, and writes them and the key into a file in `directory`.
    ///
    /// # Errors
    /// When the certificates cannot be made or written.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let root = CertifiedIssuer::self_signed(authority("Bench Root"), key()?)?;
        let intermediate = CertifiedIssuer::signed_by(authority("Bench Issuing"), key()?, &root)?;
        let leaf_key = key()?;
        let leaf =
            CertificateParams::new([HOST.to_owned()])?.signed_by(&leaf_key, &intermediate)?;

        let pem = directory.join("cert.pem");
        let text = [leaf.pem(), intermediate.pem(), leaf_key.serialize_pem()].concat();
        fs::write(&pem, text).context("cannot write the certificate")?;
        Ok(Self { pem, root: root.der().clone() })
    }
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
