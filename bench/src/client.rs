//! The load: one TLS client that insists on what is compared.
//!
//! Every program speaks the same version, suite and group because the client offers nothing else,
//! and each connection is checked for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustls::client::Resumption;
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

use crate::certificate::HOST;
use crate::cli::gate::{Group, Offer, Suite};
use crate::tickets::Tickets;

/// Length of the small messages.
pub(crate) const SMALL: usize = 125;

/// Longer than anything here takes, except a program that hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// Blocks of a pump on their way at once. Without a bound, every buffer of the machine between
/// here and the backend would fill, up to some 100 MiB, and the kernel's would be measured.
const AHEAD: usize = 4;

/// How connections begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Full,
    /// With a ticket of an earlier connection.
    Resumed,
}

/// Opens connections to one program.
#[derive(Clone)]
pub(crate) struct Client {
    connector: TlsConnector,
    suite: CipherSuite,
    group: NamedGroup,
    address: SocketAddr,
}

impl Client {
    pub(crate) fn new(
        root: &CertificateDer<'static>,
        offer: Offer,
        address: SocketAddr,
        begin: Begin,
    ) -> anyhow::Result<Self> {
        let only = match offer.suite {
            Suite::Aes128 => aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            Suite::Aes256 => aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        };
        let group = match offer.group {
            Group::P256 => aws_lc_rs::kx_group::SECP256R1,
            Group::X25519 => aws_lc_rs::kx_group::X25519,
        };
        let provider = CryptoProvider {
            cipher_suites: vec![only],
            kx_groups: vec![group],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = match begin {
            Begin::Full => Resumption::disabled(),
            Begin::Resumed => Resumption::store(Arc::new(Tickets::default())),
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            suite: only.suite(),
            group: group.name(),
            address,
        })
    }

    /// Connects, shakes hands, and has one small message echoed, so that the backend's
    /// connection surely exists.
    ///
    /// # Errors
    /// What failed, in words; also when anything else than asked for was negotiated.
    pub(crate) async fn open(&self) -> anyhow::Result<Session> {
        within("connecting", LIMIT, self.open_unlimited()).await?
    }

    async fn open_unlimited(&self) -> anyhow::Result<Session> {
        let mut session = self.handshake().await?;
        session.begin().await?;
        Ok(session)
    }

    /// As many connections as `count` before any of them can know another's tickets. Each brings
    /// two of them, of which a resumed connection uses one and brings one or two: so that many
    /// may be resumed at a time from then on.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub(crate) async fn open_together(&self, count: usize) -> anyhow::Result<Vec<Session>> {
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            sessions.push(self.handshake().await?);
        }
        for session in &mut sessions {
            session.begin().await?;
        }
        Ok(sessions)
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub(crate) async fn handshake(&self) -> anyhow::Result<Session> {
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(HOST)?;
        let stream = self.connector.connect(name, stream).await.context("handshake")?;
        let (_, tls) = stream.get_ref();
        ensure!(
            tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
                && tls.negotiated_cipher_suite().map(|suite| suite.suite()) == Some(self.suite)
                && tls.negotiated_key_exchange_group().map(|group| group.name())
                    == Some(self.group),
            "another version, suite or group was negotiated"
        );
        Ok(Session { stream })
    }
}

/// One established connection.
pub(crate) struct Session {
    stream: TlsStream<TcpStream>,
}

/// How the other side closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// With `close_notify`: nothing can have been cut off unnoticed.
    Properly,
    /// Without it, or with a reset.
    Abruptly,
}

impl Closed {
    /// The worse one.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::Properly { other } else { self }
    }
}

impl Session {
    /// Whether the handshake was an abbreviated one.
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The first exchange is shaped as an HTTP request, since httpGate forwards nothing else. It
    /// inserts lines of its own, so the echo may be longer; its end is what counts.
    async fn begin(&mut self) -> anyhow::Result<()> {
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

    /// Sends `message` and reads as much, which must be the same, into `reply`.
    ///
    /// # Errors
    /// What failed, in words.
    pub(crate) async fn exchange(
        &mut self,
        message: &[u8],
        reply: &mut [u8],
    ) -> anyhow::Result<()> {
        self.stream.write_all(message).await.context("sending")?;
        self.stream.read_exact(reply).await.context("reading the echo")?;
        ensure!(message == reply, "something else came back than was sent");
        Ok(())
    }

    /// Sends `block` `times` while reading it back. Answers the session for closing.
    ///
    /// # Errors
    /// What failed, in words.
    pub(crate) async fn pump(self, block: Arc<[u8]>, times: usize) -> anyhow::Result<Self> {
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let outgoing = Arc::clone(&block);
        let room = Arc::new(Semaphore::new(AHEAD));
        let freed = Arc::clone(&room);
        let sending = tokio::spawn(async move {
            for _ in 0..times {
                // Never closed, so this cannot fail.
                if let Ok(permit) = room.acquire().await {
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
            ensure!(reply == *block, "something else came back than was sent");
            freed.add_permits(1);
        }
        let writer = sending.await?.context("sending")?;
        Ok(Self { stream: reader.unsplit(writer) })
    }

    /// Says goodbye and waits for the other side to do so.
    ///
    /// # Errors
    /// When it does neither end the connection nor keep to what was sent.
    pub(crate) async fn close(mut self) -> anyhow::Result<Closed> {
        // Fails when the other side has closed already, which the reading tells better.
        let _ = self.stream.shutdown().await;
        let mut rest = [0; 256];
        match within("closing", LIMIT, self.stream.read(&mut rest)).await? {
            Ok(0) => Ok(Closed::Properly),
            Ok(_) => bail!("more came back than was sent"),
            Err(_cut) => Ok(Closed::Abruptly),
        }
    }
}

/// A request of exactly [`SMALL`] bytes.
fn request() -> Vec<u8> {
    let mut request = b"GET / HTTP/1.1\r\nHost: bench.example\r\nX-Padding: ".to_vec();
    request.resize(SMALL - 4, b'a');
    request.extend_from_slice(b"\r\n\r\n");
    request
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
