//! Returning clients resume their session, even after the certificate was renewed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, Resumption, Tls12Resumption};
use rustls::version::TLS12;
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tempfile::TempDir;
use testkit::preload;

use crate::harness::{Gate, NEVER, Pki, VERSIONS, echo, program, round_trip, write_secret};
use crate::renewal::{RENEWED, replace};

/// Returns the kind of handshake. The round trip also receives TLS 1.3's tickets for the next
/// handshake.
async fn handshake(gate: &Gate, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut client = gate.client_of(Arc::clone(config)).await;
    round_trip(&mut client).await;
    client.get_ref().1.handshake_kind().unwrap()
}

/// Asserts that the first handshake is full and that all later ones resume, even after renewals.
async fn resumes(gate: &mut Gate, config: ClientConfig) {
    let config = Arc::new(config);
    assert_eq!(handshake(gate, &config).await, HandshakeKind::Full);
    assert_eq!(handshake(gate, &config).await, HandshakeKind::Resumed);
    for _ in 0..3 {
        gate.pki.renew();
        replace(&gate.pem, &gate.pki.together());
        gate.log_line(RENEWED);
        assert_eq!(handshake(gate, &config).await, HandshakeKind::Resumed);
    }
    // A new client does not resume.
    let newcomer = gate.pki.client_config(VERSIONS[0]);
    assert_eq!(handshake(gate, &Arc::new(newcomer)).await, HandshakeKind::Full);
}

#[tokio::test]
async fn by_ticket_in_both_versions() {
    let mut gate = Gate::start(echo().await, &["--reload-interval", "10ms"]);
    for version in VERSIONS {
        let config = gate.pki.client_config(version);
        resumes(&mut gate, config).await;
    }
}

/// Some TLS 1.2 clients do not support tickets and resume by session ID.
#[tokio::test]
async fn by_session_id() {
    let mut gate = Gate::start(echo().await, &["--reload-interval", "10ms"]);
    let mut config = gate.pki.client_config(&TLS12);
    let store = Arc::new(ClientSessionMemoryCache::new(8));
    config.resumption = Resumption::store(store).tls12_resumption(Tls12Resumption::SessionIdOnly);
    resumes(&mut gate, config).await;
}

/// The clock of a gate, which the test can set ahead.
struct Clock {
    dir: TempDir,
    ahead: File,
    library: PathBuf,
}

impl Clock {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let ahead = File::create(dir.path().join("ahead")).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clock.c");
        let library = preload::compile(source, dir.path());
        let this = Self { dir, ahead, library };
        this.set_to(0);
        this
    }

    /// Sets the clock to `hours` hours after the start.
    fn set_to(&self, hours: i64) {
        self.ahead.write_all_at(&(hours * 3_600).to_ne_bytes(), 0).unwrap();
    }

    async fn gate(&self) -> Gate {
        let pki = Pki::new();
        let pem = self.dir.path().join("cert.pem");
        write_secret(&pem, pki.together());
        let mut command = program();
        command.env("LD_PRELOAD", &self.library);
        command.env("CLOCK_AHEAD", self.dir.path().join("ahead"));
        command.args(["127.0.0.1:0", &echo().await.to_string()]).arg(pem);
        command.args(["--reload-interval", NEVER, "--log", "debug"]);
        Gate::launch(command, pki)
    }
}

/// A client that has received a ticket.
async fn guest(gate: &Gate, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let config = gate.pki.client(version);
    assert_eq!(handshake(gate, &config).await, HandshakeKind::Full);
    config
}

/// docs/security.md promises that keys rotate every 6 hours, and that the previous key decrypts
/// tickets for another 6 hours.
#[tokio::test]
async fn ticket_keys_are_replaced() {
    for version in VERSIONS {
        let clock = Clock::new();
        let gate = clock.gate().await;
        let [first, second, third] =
            [guest(&gate, version).await, guest(&gate, version).await, guest(&gate, version).await];
        clock.set_to(5);
        assert_eq!(handshake(&gate, &first).await, HandshakeKind::Resumed, "{version:?}");
        clock.set_to(7);
        assert_eq!(handshake(&gate, &second).await, HandshakeKind::Resumed, "{version:?}");
        clock.set_to(14);
        // The third client's ticket has the first key. The second client's ticket has a key that is
        // 7 hours newer.
        assert_eq!(handshake(&gate, &third).await, HandshakeKind::Full, "{version:?}");
        assert_eq!(handshake(&gate, &second).await, HandshakeKind::Resumed, "{version:?}");
    }
}

/// If only handshakes replaced the keys, an idle gate would accept tickets of any age.
#[tokio::test]
async fn ticket_keys_are_replaced_though_nobody_comes() {
    for version in VERSIONS {
        let clock = Clock::new();
        let gate = clock.gate().await;
        let config = guest(&gate, version).await;
        for hours in [7, 14] {
            clock.set_to(hours);
            // This connection wakes the gate, but does no handshake.
            drop(gate.tcp().await);
            gate.log_line("the client left before the handshake");
        }
        assert_eq!(handshake(&gate, &config).await, HandshakeKind::Full, "{version:?}");
    }
}
