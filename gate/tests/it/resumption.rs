//! Clients that come back resume their session, also after the certificate was renewed.

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

/// The kind of handshake. The round trip fetches TLS 1.3's tickets for the next one.
async fn handshake(gate: &Gate, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut client = gate.client_of(Arc::clone(config)).await;
    round_trip(&mut client).await;
    client.get_ref().1.handshake_kind().unwrap()
}

/// The first handshake is full, and all later ones resume, across renewals.
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

/// TLS 1.2 clients may not support tickets.
#[tokio::test]
async fn by_session_id() {
    let mut gate = Gate::start(echo().await, &["--reload-interval", "10ms"]);
    let mut config = gate.pki.client_config(&TLS12);
    let store = Arc::new(ClientSessionMemoryCache::new(8));
    config.resumption = Resumption::store(store).tls12_resumption(Tls12Resumption::SessionIdOnly);
    resumes(&mut gate, config).await;
}

/// The clock of a gate, which may be set ahead.
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

    /// Sets the clock to this many hours after the start.
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

/// A client that has a ticket.
async fn guest(gate: &Gate, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let config = gate.pki.client(version);
    assert_eq!(handshake(gate, &config).await, HandshakeKind::Full);
    config
}

/// Keys rotate every 6 hours, and the previous key opens tickets for another 6: docs/security.md
/// says so.
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
        // One ticket has the first key, the other the key of 7 hours later.
        assert_eq!(handshake(&gate, &third).await, HandshakeKind::Full, "{version:?}");
        assert_eq!(handshake(&gate, &second).await, HandshakeKind::Resumed, "{version:?}");
    }
}

/// If only a handshake replaced the keys, an idle gate would accept tickets of any age.
#[tokio::test]
async fn ticket_keys_are_replaced_though_nobody_comes() {
    for version in VERSIONS {
        let clock = Clock::new();
        let gate = clock.gate().await;
        let config = guest(&gate, version).await;
        for hours in [7, 14] {
            clock.set_to(hours);
            // This wakes the gate, and is no handshake.
            drop(gate.tcp().await);
            gate.log_line("the client left before the handshake");
        }
        assert_eq!(handshake(&gate, &config).await, HandshakeKind::Full, "{version:?}");
    }
}
