//! The first bytes of a connection, and what follows from them: a TLS handshake, or a page that
//! tells a person where to go.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ProtocolVersion;
use shared::linger::linger;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::channel::{Channel, Peer};
use crate::error::Error;
use crate::scratch::{self, Scratch};
use crate::tls::Served;

/// The content type of a TLS record that carries a handshake (RFC 8446, 5.1): what every TLS
/// connection begins with.
const HANDSHAKE: u8 = 0x16;

/// A client after the handshake.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) client: TcpStream,
    pub(crate) channel: Channel,
    /// What came along with the end of the handshake, and how the client stands after that.
    pub(crate) early: Vec<u8>,
    pub(crate) peer: Peer,
}

/// Reads the first byte, and then shakes hands or explains.
///
/// # Errors
/// When it does not come to a secured connection; the client has been told why, if it can be.
pub(crate) async fn handshake(mut client: TcpStream, served: &Served) -> Result<Secured, Error> {
    let channel = Channel::new(Arc::clone(&served.config)).map_err(Error::Tls)?;
    let mut handshake = Handshake { channel, begun: false };
    match poll_fn(|cx| scratch::with(|scratch| handshake.poll(&mut client, cx, scratch))).await {
        Ok((early, peer)) => Ok(Secured { client, channel: handshake.channel, early, peer }),
        Err(Error::NotTls) => {
            explain(client, served).await;
            Err(Error::NotTls)
        }
        Err(error) => {
            if matches!(&error, Error::Handshake(why) if why.kind() == io::ErrorKind::InvalidData) {
                // The alert is written; it shall arrive.
                let _ = poll_fn(|cx| handshake.channel.poll_flush(&mut client, cx)).await;
                linger(&client).await;
            }
            Err(error)
        }
    }
}

struct Handshake {
    channel: Channel,
    begun: bool,
}

impl Handshake {
    fn poll(
        &mut self,
        client: &mut TcpStream,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<(Vec<u8>, Peer), Error>> {
        loop {
            if let Err(error) = ready!(self.channel.poll_flush(client, cx)) {
                return Poll::Ready(Err(Error::Handshake(error)));
            }
            let count = match ready!(self.channel.poll_read(client, cx, scratch)) {
                Ok(0) if self.begun => return Poll::Ready(Err(cut_off())),
                Err(error) if self.begun => return Poll::Ready(Err(Error::Handshake(error))),
                Ok(0) | Err(_) => return Poll::Ready(Err(Error::Left)),
                Ok(count) => count,
            };
            if !self.begun && scratch.raw[0] != HANDSHAKE {
                return Poll::Ready(Err(Error::NotTls));
            }
            self.begun = true;
            let peer = self.channel.receive(scratch, count);
            let done = !self.channel.negotiated().is_handshaking();
            // All that a TLS 1.3 server has left to say then are tickets. The relay sends them, as the
            // client's first words may be here by the time that there is a backend.
            let version = self.channel.negotiated().protocol_version();
            if done && version == Some(ProtocolVersion::TLSv1_3) {
                self.channel.put_by(&mut scratch.output);
            } else {
                self.channel.send(client, cx, &mut scratch.output);
            }
            match peer {
                peer if done => return Poll::Ready(Ok((scratch.plain.clone(), peer))),
                Peer::Open => {}
                Peer::Ended => return Poll::Ready(Err(cut_off())),
                Peer::Faulty(error) => {
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

/// Tells a person who typed `http:` where to go. Nothing of the request is parsed.
async fn explain(mut client: TcpStream, served: &Served) {
    let Ok(local) = client.local_addr() else { return };
    let host = served.identity.host().map(str::to_owned).unwrap_or_else(|| match local {
        SocketAddr::V4(local) => local.ip().to_string(),
        SocketAddr::V6(local) => format!("[{}]", local.ip()),
    });
    let page = page(&format!("https://{host}:{}/", local.port()));
    if client.write_all(page.as_bytes()).await.is_ok() {
        linger(&client).await;
    }
}

fn page(address: &str) -> String {
    // It comes from a certificate: nothing in it may end an attribute or a tag.
    let address: String =
        address.chars().filter(|c| c.is_ascii_alphanumeric() || "-._:/[]".contains(*c)).collect();
    let body = format!(
        "<!DOCTYPE html><title>400 Bad Request</title>\
         <p>This port speaks HTTPS. Use <a href=\"{address}\">{address}</a></p>\n"
    );
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_exactly_as_long_as_it_says_and_quotes_nothing() {
        let page = page("https://shop.example\"><script>:9091/");
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(body.contains("<a href=\"https://shop.examplescript:9091/\">"));
    }
}
