//! The TLS of one established connection: ciphertext in, plaintext out, and back.

use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ServerConnection;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

/// How the peer's side of the channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Open,
    /// It said its last word.
    Ended,
    /// It broke the protocol, or someone tampered with its bytes; the alert is pending.
    Faulty,
}

/// An established TLS connection without its socket.
#[derive(Debug)]
pub(super) struct Channel {
    tls: ServerConnection,
}

impl Channel {
    pub(super) fn new(mut tls: ServerConnection) -> Self {
        // Bounded by its owner, which sends nothing while output is pending; with a limit here
        // a record of rustls's own (a key update) would make it take less than it was given.
        tls.set_buffer_limit(None);
        Self { tls }
    }

    /// Takes all of `input` as read from the socket and appends to `plain` what it decrypts to,
    /// also what came before a fault.
    pub(super) fn receive(&mut self, mut input: &[u8], plain: &mut Vec<u8>) -> Peer {
        loop {
            // rustls takes an empty read for the end of the connection. It takes 4 KiB at a time
            // and refuses more while plaintext is left, which therefore is taken out every time.
            let unread = input.len();
            if unread > 0 && self.tls.read_tls(&mut input).is_err() {
                return Peer::Faulty;
            }
            let state = self.tls.process_new_packets();
            let mut reader = self.tls.reader();
            while let Ok(chunk @ [_, ..]) = reader.fill_buf() {
                plain.extend_from_slice(chunk);
                let count = chunk.len();
                reader.consume(count);
            }
            match state {
                Err(_) => return Peer::Faulty,
                // What follows a close_notify is nobody's.
                Ok(state) if state.peer_has_closed() => return Peer::Ended,
                Ok(_) if input.is_empty() => return Peer::Open,
                // Nothing was taken although nothing hinders it: it will never be.
                Ok(_) if input.len() == unread => return Peer::Faulty,
                Ok(_) => {}
            }
        }
    }

    /// Gives back what large records took: after one of 16 KiB, rustls keeps as much until it
    /// reads again, which may be hours later. 4 KiB of it remain.
    pub(super) fn rest(&mut self) {
        // rustls arranges its buffer before it reads, so it is made to read nothing.
        let _ = self.tls.read_tls(&mut Nothing);
    }

    /// Encrypts all of `plain`; [`Channel::poll_flush_to`] sends it.
    ///
    /// # Errors
    /// After a fault, nothing more can be sent.
    pub(super) fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(plain)
    }

    /// Says that nothing more will be sent (`close_notify`), behind what is pending.
    pub(super) fn say_end(&mut self) {
        self.tls.send_close_notify();
    }

    /// Writes pending output until none is left.
    pub(super) fn poll_flush_to(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Blocking { stream, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A source that has nothing at the moment.
struct Nothing;

impl io::Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A socket as `std` writes to one: `WouldBlock` for Pending, with the waker registered.
struct Blocking<'a, 'b> {
    stream: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Blocking<'_, '_> {
    fn done(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
        match poll {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for Blocking<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::done(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::done(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
