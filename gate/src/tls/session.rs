//! A TLS session without a socket: decrypts the client's bytes, and encrypts bytes for the client.
//!
//! The session uses rustls's unbuffered interface with the buffers of the thread. An idle
//! connection holds only the beginning of an incomplete record, and output that the client has not
//! taken yet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{self, SendFlags};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, ServerConfig};
use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;

use crate::buffer::{self, Output, Pending, RECORD, Scratch};

/// The most bytes of an incomplete handshake message that are kept. The limit is far above a
/// ClientHello, which has about 2 KiB, including post-quantum keys.
const HANDSHAKE_MESSAGE: usize = 32 * 1024;

/// The state of the client's side of the session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PeerState {
    Open,
    /// The client sent `close_notify`.
    Ended,
    /// The client violated the protocol, or its bytes were tampered with. The alert is in the
    /// output.
    Faulty(rustls::Error),
}

/// Nothing more can be sent, because a fault ended the session, or because its keys have reached
/// their usage limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CannotSend;

/// A TLS connection without its socket.
pub(crate) struct TlsSession {
    tls: UnbufferedServerConnection,
    /// The beginning of a message that can only be processed when it is complete. It has at most
    /// [`HANDSHAKE_MESSAGE`] bytes, and after the handshake at most one [`RECORD`].
    partial: Box<[u8]>,
    /// Encrypted output that the client has not taken yet.
    pending: Pending,
    faulty: bool,
}

impl std::fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSession").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl TlsSession {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config)?,
            partial: Box::default(),
            pending: Pending::default(),
            faulty: false,
        })
    }

    /// The negotiated TLS parameters.
    pub(crate) fn negotiated(&self) -> &CommonState {
        &self.tls
    }

    /// Reads into `scratch.raw`, after the kept part of an incomplete message. Returns the number
    /// of bytes in the buffer, or 0 at the end of the client's stream.
    pub(crate) fn poll_read(
        &mut self,
        client: &mut TcpStream,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let partial = self.partial.len();
        let count = ready!(buffer::read(client, cx, &mut scratch.raw[partial..]))?;
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        scratch.raw[..partial].copy_from_slice(&self.partial);
        self.partial = Box::default();
        Poll::Ready(Ok(partial + count))
    }

    /// Processes the first `count` bytes of `scratch.raw`. Puts plaintext into `scratch.plain`,
    /// including any that came before a fault. Puts the reply that TLS requires into
    /// `scratch.output`.
    pub(crate) fn receive(&mut self, scratch: &mut Scratch, count: usize) -> PeerState {
        let Scratch { raw, plain, output } = scratch;
        plain.clear();
        let (taken, peer) = self.process(&mut raw[..count], plain, output);
        match peer {
            PeerState::Open if count - taken <= self.max_partial() => {
                self.partial = raw[taken..count].into()
            }
            PeerState::Open => {
                self.flush_alert(&mut scratch.output);
                return PeerState::Faulty(rustls::Error::General(
                    "a message that is too long".into(),
                ));
            }
            // Bytes that follow a `close_notify` or a fault are ignored.
            PeerState::Ended | PeerState::Faulty(_) => {}
        }
        peer
    }

    /// The most bytes of an incomplete message that are kept. After the handshake, TLS's own
    /// messages have only a few bytes.
    fn max_partial(&self) -> usize {
        if self.tls.is_handshaking() { HANDSHAKE_MESSAGE } else { RECORD }
    }

    fn process(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        output: &mut Output,
    ) -> (usize, PeerState) {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut input[taken..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, output),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    return (taken, PeerState::Ended);
                }
                // The rest of the input cannot be processed yet. (The gate never accepts early
                // data.)
                Ok(_) => return (taken + discard, PeerState::Open),
                Err(error) => {
                    self.flush_alert(output);
                    return (taken, PeerState::Faulty(error));
                }
            }
            taken += discard;
        }
    }

    /// Puts the alert into `output`, and the messages that must precede it. The session processes
    /// nothing afterwards.
    fn flush_alert(&mut self, output: &mut Output) {
        self.faulty = true;
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, output),
                _ => return,
            }
        }
    }

    /// Encrypts all of `plain` into `output`.
    pub(crate) fn encrypt(&mut self, plain: &[u8], output: &mut Output) -> Result<(), CannotSend> {
        self.write(output, |traffic, space| traffic.encrypt(plain, space))
    }

    /// Encrypts a `close_notify` into `output`. Nothing more is sent after it.
    pub(crate) fn send_close_notify(&mut self, output: &mut Output) {
        // This fails if an alert has already ended the session.
        let _ = self.write(output, |traffic, space| traffic.queue_close_notify(space));
    }

    fn write<F>(&mut self, output: &mut Output, mut put: F) -> Result<(), CannotSend>
    where
        F: FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    {
        while !self.faulty {
            // rustls remembers the position in the incomplete message where it stopped, so it must
            // see the kept part again.
            match self.tls.process_tls_records(&mut self.partial).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match put(&mut traffic, output.spare_capacity()) {
                        Ok(count) => {
                            output.fill(count);
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(more)) => {
                            output.reserve(more.required_size);
                        }
                        Err(EncryptError::EncryptExhausted) => self.flush_alert(output),
                    }
                }
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, output),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) | Err(_) => self.flush_alert(output),
            }
        }
        Err(CannotSend)
    }

    /// Writes `output` to the client, and keeps the bytes that the client does not take now. The
    /// next flush reports any error.
    pub(crate) fn send(
        &mut self,
        client: &mut TcpStream,
        cx: &mut Context<'_>,
        output: &mut Output,
    ) {
        let mut bytes = output.take();
        if bytes.is_empty() {
            return;
        }
        if self.pending.is_empty()
            && let Poll::Ready(Ok(count)) = Pin::new(client).poll_write(cx, bytes)
        {
            bytes = &bytes[count..];
        }
        self.pending.put(bytes);
    }

    /// Keeps `output` until the next flush.
    pub(crate) fn queue(&mut self, output: &mut Output) {
        self.pending.put(output.take());
    }

    /// Hands pending output to the kernel. The kernel sends it in one packet with the next output,
    /// or alone after 0.2 s (`MSG_MORE` of send(2)).
    pub(crate) fn send_with_next(&mut self, client: &TcpStream) {
        if self.pending.is_empty() {
            return;
        }
        let sent = client.try_io(Interest::WRITABLE, || {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            Ok(net::send(client, self.pending.bytes(), flags)?)
        });
        // The next flush writes the rest, or reports the error.
        if let Ok(count) = sent {
            self.pending.advance(count);
        }
    }

    /// Writes all pending output.
    pub(crate) fn poll_flush(
        &mut self,
        client: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            if ready!(self.pending.poll_write_to(client, cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

type Traffic<'a> = WriteTraffic<'a, ServerConnectionData>;

fn encode(mut message: EncodeTlsData<'_, ServerConnectionData>, output: &mut Output) {
    loop {
        match message.encode(output.spare_capacity()) {
            Ok(count) => return output.fill(count),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                output.reserve(required_size);
            }
            Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}
