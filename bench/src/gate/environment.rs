//! The gates, their certificate and their backend.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustix::process::set_child_subreaper;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use super::client::{Client, Endpoint, Group, HOST, Handshake, Offer};
use crate::programs::peers::Peer;
use crate::programs::program::{Program, READY};

/// What all gates of a run share.
pub(crate) struct Environment {
    chain: Chain,
    offer: Offer,
    backend: SocketAddr,
    _echo: Program,
    _directory: TempDir,
    /// Peers that closed a connection without `close_notify`.
    pub(crate) closed_abruptly: Mutex<BTreeSet<String>>,
}

/// A gate to measure.
pub(crate) struct Gate {
    pub(crate) environment: Arc<Environment>,
    pub(crate) kind: &'static Peer,
    /// The program, if it is ours.
    pub(crate) build: Option<PathBuf>,
}

/// A gate that has forwarded a connection.
pub(crate) struct RunningGate {
    pub(crate) program: Program,
    pub(crate) endpoint: Endpoint,
}

impl Environment {
    /// Makes the certificate and starts the backend.
    pub(crate) fn new(offer: Offer) -> Result<Arc<Self>> {
        // Programs that go into the background become children of this one, which can end them.
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
    /// Starts it, and waits until a connection has been forwarded.
    ///
    /// # Errors
    /// With the end of its stderr, when it does not start.
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
        // httpGate sets the curve P-256, and OpenSSL then knows no other group.
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

    /// Notes how connections were closed.
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

/// The certificates that every program serves: leaf, intermediate and key in one file, all P-256.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) pem: PathBuf,
    /// The certificate that the client trusts.
    pub(crate) root: CertificateDer<'static>,
}

impl Chain {
    /// Writes `cert.pem` into `directory`.
    ///
    /// # Errors
    /// When it cannot be made or written.
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
