//! The TLS handshake of a client, which may turn out not to speak TLS.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ProtocolVersion, ServerConfig};
use shared::linger::linger;
use tokio::net::TcpStream;

use super::session::{PeerState, TlsSession};
use crate::buffer::{self, Scratch};
use crate::error::Error;

/// The content type of a TLS record that carries a handshake (RFC 8446, 5.1). Every TLS connection
/// begins with it.
const HANDSHAKE: u8 = 0x16;

/// A TLS session after the handshake.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) session: TlsSession,
    /// Plaintext that was read together with the end of the handshake.
    pub(crate) early: Vec<u8>,
    /// The client's state after this plaintext.
    pub(crate) peer: PeerState,
}

/// Reads the first bytes and completes the handshake.
///
/// # Errors
/// [`Error::NotTls`] if the first byte does not begin a handshake; the client has then been sent
/// nothing. Otherwise the reason why the handshake failed. If the client's TLS messages were at
/// fault, the client has been sent an alert.
pub(crate) async fn handshake(
    client: &mut TcpStream,
    config: &Arc<ServerConfig>,
) -> Result<Secured, Error> {
    let session = TlsSession::new(Arc::clone(config)).map_err(Error::Tls)?;
    let mut handshake = Handshake { session, begun: false };
    match poll_fn(|cx| buffer::with(|scratch| handshake.poll(client, cx, scratch))).await {
        Ok((early, peer)) => Ok(Secured { session: handshake.session, early, peer }),
        Err(error) => {
            if matches!(&error, Error::Handshake(why) if why.kind() == io::ErrorKind::InvalidData) {
                // The alert must reach the client before the connection is closed.
                let _ = poll_fn(|cx| handshake.session.poll_flush(client, cx)).await;
                linger(client).await;
            }
            Err(error)
        }
    }
}

struct Handshake {
    session: TlsSession,
    begun: bool,
}

impl Handshake {
    fn poll(
        &mut self,
        client: &mut TcpStream,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<(Vec<u8>, PeerState), Error>> {
        loop {
            if let Err(error) = ready!(self.session.poll_flush(client, cx)) {
                return Poll::Ready(Err(Error::Handshake(error)));
            }
            let count = match ready!(self.session.poll_read(client, cx, scratch)) {
                Ok(0) if self.begun => return Poll::Ready(Err(cut_off())),
                Err(error) if self.begun => return Poll::Ready(Err(Error::Handshake(error))),
                Ok(0) | Err(_) => return Poll::Ready(Err(Error::Left)),
                Ok(count) => count,
            };
            if !self.begun && scratch.raw[0] != HANDSHAKE {
                return Poll::Ready(Err(Error::NotTls));
            }
            self.begun = true;
            let peer = self.session.receive(scratch, count);
            let done = !self.session.negotiated().is_handshaking();
            // At this point a TLS 1.3 server sends only session tickets. The relay sends the
            // tickets later: the client's first request may arrive before the backend is connected,
            // and the tickets can then share a packet with the answer.
            let version = self.session.negotiated().protocol_version();
            if done && version == Some(ProtocolVersion::TLSv1_3) {
                self.session.queue(&mut scratch.output);
            } else {
                self.session.send(client, cx, &mut scratch.output);
            }
            match peer {
                peer if done => return Poll::Ready(Ok((scratch.plain.clone(), peer))),
                PeerState::Open => {}
                PeerState::Ended => return Poll::Ready(Err(cut_off())),
                PeerState::Faulty(error) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, error);
                    return Poll::Ready(Err(Error::Handshake(error)));
                }
            }
        }
    }
}

fn cut_off() -> Error {
    Error::Handshake(io::Error::new(io::ErrorKind::UnexpectedEof, "the client left in the middle"))
}
