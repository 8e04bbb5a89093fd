//! The TLS of one connection: ciphertext in, plaintext out, and back.
//!
//! rustls's unbuffered interface, over the buffers of the thread: an idle connection keeps none,
//! only the beginning of a record whose rest has not come, and output that the client has not taken.

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
use tokio::io::{AsyncRead, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::pending::Pending;
use crate::scratch::{Output, RECORD, Scratch};

/// The most that is kept of a message of the handshake until it is whole. A client's hello has some
/// 2 KiB, with keys of post-quantum cryptography in it.
const HANDSHAKE_MESSAGE: usize = 32 * 1024;

/// How the peer's side of the channel stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Peer {
    Open,
    /// It said its last word.
    Ended,
    /// It broke the protocol, or someone tampered with its bytes; the alert is among the output.
    Faulty(rustls::Error),
}

/// No more can be sent: after a fault, or because the keys may not be used any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent;

/// A TLS connection without its socket.
pub(crate) struct Channel {
    tls: UnbufferedServerConnection,
    /// The beginning of what can be processed only as a whole: [`HANDSHAKE_MESSAGE`] at most, and
    /// after the handshake one [`RECORD`].
    kept: Box<[u8]>,
    /// Encrypted, but not taken by the client yet.
    pending: Pending,
    faulty: bool,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Channel {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config)?,
            kept: Box::default(),
            pending: Pending::default(),
            faulty: false,
        })
    }

    /// What was negotiated.
    pub(crate) fn negotiated(&self) -> &CommonState {
        &self.tls
    }

    /// Reads into `scratch.raw`, behind what was kept, and says how much stands there now; nothing
    /// at the client's end.
    pub(crate) fn poll_read(
        &mut self,
        client: &mut TcpStream,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let kept = self.kept.len();
        let count = ready!(read(client, cx, &mut scratch.raw[kept..]))?;
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        scratch.raw[..kept].copy_from_slice(&self.kept);
        self.kept = Box::default();
        Poll::Ready(Ok(kept + count))
    }

    /// Takes the first `count` bytes of `scratch.raw`. What they decrypt to, also what came before
    /// a fault, is put into `scratch.plain`; what is to be sent on, into `scratch.output`.
    pub(crate) fn receive(&mut self, scratch: &mut Scratch, count: usize) -> Peer {
        let Scratch { raw, plain, output } = scratch;
        plain.clear();
        let (taken, peer) = self.process(&mut raw[..count], plain, output);
        match peer {
            Peer::Open if count - taken <= self.most_kept() => self.kept = raw[taken..count].into(),
            Peer::Open => {
                self.last_words(&mut scratch.output);
                return Peer::Faulty(rustls::Error::General("a message that is too long".into()));
            }
            // What follows a close_notify is nobody's.
            Peer::Ended | Peer::Faulty(_) => {}
        }
        peer
    }

    /// After the handshake, messages of TLS itself are some bytes long.
    fn most_kept(&self) -> usize {
        if self.tls.is_handshaking() { HANDSHAKE_MESSAGE } else { RECORD }
    }

    fn process(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        output: &mut Output,
    ) -> (usize, Peer) {
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
                    return (taken, Peer::Ended);
                }
                // Nothing more can be done with this input. (Early data is never accepted.)
                Ok(_) => return (taken + discard, Peer::Open),
                Err(error) => {
                    self.last_words(output);
                    return (taken, Peer::Faulty(error));
                }
            }
            taken += discard;
        }
    }

    /// The alert, and what should go before it. Nothing can be processed any more.
    fn last_words(&mut self, output: &mut Output) {
        self.faulty = true;
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, output),
                _ => return,
            }
        }
    }

    /// Encrypts all of `plain` into `output`.
    pub(crate) fn encrypt(&mut self, plain: &[u8], output: &mut Output) -> Result<(), Spent> {
        self.write(output, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Says that nothing more will be sent (`close_notify`).
    pub(crate) fn say_end(&mut self, output: &mut Output) {
        // Fails if the client was told of a fault: that was the end already.
        let _ = self.write(output, |traffic, room| traffic.queue_close_notify(room));
    }

    fn write<F>(&mut self, output: &mut Output, mut put: F) -> Result<(), Spent>
    where
        F: FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    {
        while !self.faulty {
            // With what was kept, as rustls remembers where in it a message begins.
            match self.tls.process_tls_records(&mut self.kept).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match put(&mut traffic, output.room()) {
                        Ok(count) => {
                            output.fill(count);
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(more)) => {
                            output.reserve(more.required_size);
                        }
                        Err(EncryptError::EncryptExhausted) => self.last_words(output),
                    }
                }
                Ok(ConnectionState::EncodeTlsData(message)) => encode(message, output),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) | Err(_) => self.last_words(output),
            }
        }
        Err(Spent)
    }

    /// Sends what `output` holds, and keeps what the client does not take at once. An error shows
    /// when that is flushed.
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

    /// Keeps what `output` holds for the next flush.
    pub(crate) fn put_by(&mut self, output: &mut Output) {
        self.pending.put(output.take());
    }

    /// Hands pending output to the kernel, which sends it in one packet with what follows, or after
    /// 0.2 s (`MSG_MORE` of send(2)).
    pub(crate) fn send_along(&mut self, client: &TcpStream) {
        if self.pending.is_empty() {
            return;
        }
        let sent = client.try_io(Interest::WRITABLE, || {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            Ok(net::send(client, self.pending.bytes(), flags)?)
        });
        // Otherwise the next flush sees to it, and to the error.
        if let Ok(count) = sent {
            self.pending.advance(count);
        }
    }

    /// Writes pending output until none is left.
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
        match message.encode(output.room()) {
            Ok(count) => return output.fill(count),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                output.reserve(required_size);
            }
            Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}

/// Reads what is there. tokio's own `poll_read` costs no second system call to learn that
/// nothing is left, and counts towards the task's budget.
pub(crate) fn read(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
