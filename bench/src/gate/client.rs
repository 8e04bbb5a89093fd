//! The load on gates: a TLS client that offers exactly one version, cipher suite and group.
//!
//! So every program uses the same version, suite and group; each connection is checked.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use parking_lot::Mutex;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CipherSuite, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
};
use rustls_pki_types::{CertificateDer, ServerName};
use shared::deadline::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The host name in the certificate.
pub(crate) const HOST: &str = "bench.example";

/// The length of the small messages in bytes.
pub(crate) const SMALL: usize = 125;

/// The time limit of each step of a connection. Only a program that hangs takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// How many blocks a connection sends before the first one comes back. Without a bound, every
/// buffer between the client and the backend would fill, up to about 100 MiB, and the cost of the
/// kernel's buffers would be measured.
const MAX_AHEAD: usize = 4;

/// A cipher suite. Browsers offer the first one first. The second one is slower, because CPUs have
/// no instructions for its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// `TLS13_AES_128_GCM_SHA256`
    Aes128,
    /// `TLS13_AES_256_GCM_SHA384`
    Aes256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    P256,
    X25519,
}

/// The only cipher suite and the only group that the client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) suite: Suite,
    pub(crate) group: Group,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Full,
    /// A handshake with a ticket of an earlier connection.
    Resumed,
}

/// The address of a gate, and what the client offers and trusts there.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) offer: Offer,
    pub(crate) root: CertificateDer<'static>,
    /// Whether the gate closed a connection without `close_notify`, so that the end of the stream
    /// might be a truncation.
    pub(crate) closed_abruptly: Arc<AtomicBool>,
}

/// Opens connections to one gate.
#[derive(Clone)]
pub(crate) struct Client {
    connector: TlsConnector,
    suite: CipherSuite,
    group: NamedGroup,
    address: SocketAddr,
    closed_abruptly: Arc<AtomicBool>,
}

impl Client {
    pub(crate) fn new(to: &Endpoint, handshake: Handshake) -> Result<Self> {
        let only = match to.offer.suite {
            Suite::Aes128 => aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            Suite::Aes256 => aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        };
        let group = match to.offer.group {
            Group::P256 => aws_lc_rs::kx_group::SECP256R1,
            Group::X25519 => aws_lc_rs::kx_group::X25519,
        };
        let (cipher_suites, kx_groups, rest) =
            (vec![only], vec![group], aws_lc_rs::default_provider());
        let provider = CryptoProvider { cipher_suites, kx_groups, ..rest };
        let mut roots = RootCertStore::empty();
        roots.add(to.root.clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = match handshake {
            Handshake::Full => Resumption::disabled(),
            Handshake::Resumed => Resumption::store(Arc::new(Tickets::default())),
        };
        let connector = TlsConnector::from(Arc::new(config));
        let (suite, group, address) = (only.suite(), group.name(), to.address);
        let closed_abruptly = Arc::clone(&to.closed_abruptly);
        Ok(Self { connector, suite, group, address, closed_abruptly })
    }

    /// Connects, completes the handshake, and has one small message echoed, so that the connection
    /// to the backend exists.
    ///
    /// # Errors
    /// When another version, suite or group was negotiated, or the connection fails.
    pub(crate) async fn open(&self) -> Result<Session> {
        let open = async {
            let mut session = self.handshake().await?;
            session.first_exchange().await?;
            anyhow::Ok(session)
        };
        within("connecting", LIMIT, open).await?
    }

    /// Opens `count` connections before any of them has received tickets. Each then receives two. A
    /// resumed connection uses one ticket and receives one or two, so `count` connections can be
    /// resumed at the same time from then on.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub(crate) async fn open_together(&self, count: usize) -> Result<Vec<Session>> {
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            sessions.push(self.handshake().await?);
        }
        for session in &mut sessions {
            session.first_exchange().await?;
        }
        Ok(sessions)
    }

    /// Connects and completes the handshake.
    ///
    /// # Errors
    /// As for [`Client::open`].
    pub(crate) async fn handshake(&self) -> Result<Session> {
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(HOST)?;
        let stream = self.connector.connect(name, stream).await.context("handshake")?;
        let (_, tls) = stream.get_ref();
        let suite = tls.negotiated_cipher_suite().map(|suite| suite.suite());
        let group = tls.negotiated_key_exchange_group().map(|group| group.name());
        let wanted = (Some(ProtocolVersion::TLSv1_3), Some(self.suite), Some(self.group));
        let is_wanted = (tls.protocol_version(), suite, group) == wanted;
        ensure!(is_wanted, "another version, suite or group was negotiated");
        Ok(Session { stream, closed_abruptly: Arc::clone(&self.closed_abruptly) })
    }
}

/// One established connection.
pub(crate) struct Session {
    stream: TlsStream<TcpStream>,
    closed_abruptly: Arc<AtomicBool>,
}

impl Session {
    /// Returns whether the handshake resumed a session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Exchanges the first message, which is an HTTP request because httpGate forwards nothing
    /// else. httpGate inserts header lines, so the echo may be longer, and only its end is
    /// compared.
    async fn first_exchange(&mut self) -> Result<()> {
        let request = request();
        self.stream.write_all(&request).await.context("sending the first message")?;
        let mut reply = Vec::with_capacity(4 * SMALL);
        while reply.len() < SMALL || !reply.ends_with(b"\r\n\r\n") {
            ensure!(reply.len() < 16 * SMALL, "the first message came back mangled");
            let count = self.stream.read_buf(&mut reply).await.context("reading the first echo")?;
            ensure!(count > 0, "closed instead of echoing the first message");
        }
        Ok(())
    }

    /// Sends a small message and reads it back, a number of times.
    pub(crate) async fn talk(mut self, times: usize) -> Result<Self> {
        let message: [u8; SMALL] = std::array::from_fn(|i| b"abcdefghijk"[i % 11]);
        let mut reply = [0; SMALL];
        for _ in 0..times {
            self.stream.write_all(&message).await.context("sending")?;
            self.stream.read_exact(&mut reply).await.context("reading the echo")?;
            ensure!(message == reply, "the echo differs from the message");
        }
        Ok(self)
    }

    /// Sends `block` a number of times while reading the echo.
    pub(crate) async fn pump(self, block: Arc<[u8]>, times: usize) -> Result<Self> {
        let Self { stream, closed_abruptly } = self;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let outgoing = Arc::clone(&block);
        let permits = Arc::new(Semaphore::new(MAX_AHEAD));
        let echoed = Arc::clone(&permits);
        let sending = tokio::spawn(async move {
            for _ in 0..times {
                // The semaphore is never closed, so `acquire` cannot fail.
                if let Ok(permit) = permits.acquire().await {
                    permit.forget();
                }
                writer.write_all(&outgoing).await?;
                writer.flush().await?;
            }
            io::Result::Ok(writer)
        });
        let mut reply = vec![0; block.len()];
        for _ in 0..times {
            within("echoing a block", LIMIT, reader.read_exact(&mut reply)).await??;
            ensure!(reply == *block, "the echo differs from the block");
            echoed.add_permits(1);
        }
        let writer = sending.await?.context("sending")?;
        Ok(Self { stream: reader.unsplit(writer), closed_abruptly })
    }

    /// Sends `close_notify` and waits for the `close_notify` of the other side.
    ///
    /// # Errors
    /// When the other side sends more data or does not close.
    pub(crate) async fn close(mut self) -> Result<()> {
        // `shutdown` fails when the other side has closed already; `read` then shows how it closed.
        let _ = self.stream.shutdown().await;
        let mut rest = [0; 256];
        match within("closing", LIMIT, self.stream.read(&mut rest)).await? {
            Ok(0) => {}
            Ok(_) => bail!("more data came back than was sent"),
            Err(_cut) => self.closed_abruptly.store(true, Ordering::Relaxed),
        }
        Ok(())
    }
}

/// Returns an HTTP request of exactly [`SMALL`] bytes.
fn request() -> Vec<u8> {
    let mut request = b"GET / HTTP/1.1\r\nHost: bench.example\r\nX-Padding: ".to_vec();
    request.resize(SMALL - 4, b'a');
    request.extend_from_slice(b"\r\n\r\n");
    request
}

/// The largest number of tickets that are kept. All connections together receive fewer before they
/// use one. The store of rustls keeps only eight for a server, too few for 16 handshakes at the
/// same time.
const MAX_TICKETS: usize = 1_024;

/// Tickets in the order of their arrival, each of which is used once.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    /// Returns no hint, because the client offers one group only.
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    /// Stores nothing, because the client speaks TLS 1.3 only.
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.kept.lock();
        if kept.len() == MAX_TICKETS {
            kept.pop_front();
        }
        kept.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.lock().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_a_small_one() {
        let request = request();
        assert_eq!(request.len(), SMALL);
        assert!(request.starts_with(b"GET / ") && request.ends_with(b"a\r\n\r\n"));
    }
}
