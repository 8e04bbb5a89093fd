//! Clients that come back resume their session, also after the certificate was renewed.

use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, Resumption, Tls12Resumption};
use rustls::version::TLS12;
use rustls::{ClientConfig, HandshakeKind};

use crate::harness::{Gate, VERSIONS, echo, round_trip};
use crate::renewal::{RENEWED, replace};

/// How the handshake went; the round trip brings TLS 1.3's tickets for the next one.
async fn handshake(gate: &Gate, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut client = gate.client_of(Arc::clone(config)).await;
    round_trip(&mut client).await;
    client.get_ref().1.handshake_kind().unwrap()
}

/// Full the first time, resumed ever after, with renewals in between.
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
    // A newcomer does not.
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

/// TLS 1.2 clients may know no tickets.
#[tokio::test]
async fn by_session_id() {
    let mut gate = Gate::start(echo().await, &["--reload-interval", "10ms"]);
    let mut config = gate.pki.client_config(&TLS12);
    let store = Arc::new(ClientSessionMemoryCache::new(8));
    config.resumption = Resumption::store(store).tls12_resumption(Tls12Resumption::SessionIdOnly);
    resumes(&mut gate, config).await;
}
