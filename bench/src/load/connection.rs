//! A connection that never blocks, with or without TLS. It can upgrade to a WebSocket, and passes
//! on the received bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::wire::response;
use crate::run;

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// The TLS configuration, and the server's name in its certificate.
#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

pub(crate) struct Connection {
    stream: Box<dyn ReadWrite>,
    /// Whether the stream uses TLS. It may then hold bytes to read that the socket has already
    /// delivered.
    is_tls: bool,
    /// Whether the connection still waits for the answer to its upgrade request.
    pub(crate) is_upgrading: bool,
    /// Bytes that the socket does not take yet.
    unsent: Vec<u8>,
    /// The beginning of a frame or an answer whose rest has not arrived.
    rest: Vec<u8>,
}

impl Connection {
    /// Uses `socket`, which may still be connecting. `upgrade` is the request for an upgrade to a
    /// WebSocket, or `None` for plain HTTP.
    ///
    /// # Errors
    /// When the TLS session cannot be set up.
    pub(crate) fn new(
        socket: TcpStream,
        tls: Option<&TlsSettings>,
        upgrade: Option<Vec<u8>>,
    ) -> Result<Self> {
        let stream: Box<dyn ReadWrite> = match tls.cloned() {
            Some(TlsSettings { config, name }) => {
                Box::new(StreamOwned::new(ClientConnection::new(config, name)?, socket))
            }
            None => Box::new(socket),
        };
        let (is_upgrading, unsent) = (upgrade.is_some(), upgrade.unwrap_or_default());
        Ok(Self { stream, is_tls: tls.is_some(), is_upgrading, unsent, rest: Vec::new() })
    }

    /// Handles an event of the socket. `buffer` is shared by all connections of the thread.
    /// `handle` gets the bytes that it has not consumed yet; its first call after an upgrade gets
    /// none. It appends the bytes to send, and returns how many bytes it has consumed.
    ///
    /// # Errors
    /// When the connection ends or `handle` fails.
    pub(crate) fn on_ready(
        &mut self,
        buffer: &mut [u8],
        mut handle: impl FnMut(&mut Vec<u8>, &[u8]) -> Result<usize>,
    ) -> Result<()> {
        self.flush().context("sending")?;
        loop {
            let before = self.rest.len();
            ensure!(before < buffer.len(), "a message is too long");
            buffer[..before].copy_from_slice(&self.rest);
            let there = match self.stream.read(&mut buffer[before..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => before + count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading"),
            };
            let mut used = 0;
            if self.is_upgrading
                && let Some(response) = response(&buffer[..there])?
            {
                ensure!(response.status == 101, "the server answered {}", response.status);
                (self.is_upgrading, used) = (false, response.length);
            }
            if !self.is_upgrading {
                used += handle(&mut self.unsent, &buffer[used..there])?;
                self.flush().context("sending")?;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[used..there]);
            if there < buffer.len() && !self.is_tls {
                // A socket that delivers less than the buffer holds is empty, and `epoll` reports
                // when more bytes arrive.
                return Ok(());
            }
        }
    }

    /// Sends `bytes`, and keeps those that the socket does not take yet.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    /// Sends as many of the kept bytes as the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            // The buffer is freed, so that an idle listener takes no memory for it.
            self.unsent = Vec::new();
        }
        // With TLS, encrypted records may still wait in the session.
        match self.stream.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

/// The largest number of events that one call of `epoll` returns.
const EVENTS: usize = 1_024;

/// The longest wait for events. After each wait, the program checks whether the user wants to end.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// An edge-triggered `epoll`. It reports each change once, so its user must read until the socket
/// is empty.
pub(crate) struct Poll {
    poll: mio::Poll,
    events: Events,
}

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { poll: mio::Poll::new()?, events: Events::with_capacity(EVENTS) })
    }

    /// Registers `socket`: until the socket is closed, `wait` reports its events under `number`.
    pub(crate) fn add(&self, socket: &impl AsRawFd, number: usize) -> Result<()> {
        let (fd, events) = (socket.as_raw_fd(), Interest::READABLE | Interest::WRITABLE);
        Ok(self.poll.registry().register(&mut SourceFd(&fd), Token(number), events)?)
    }

    /// Waits for events, at most `limit`, and returns the numbers of their sockets.
    ///
    /// # Errors
    /// When the user wants to end, or the wait fails.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<impl Iterator<Item = usize>> {
        run::check_interrupt()?;
        match self.poll.poll(&mut self.events, Some(limit.min(LONGEST_WAIT))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(error).context("waiting for sockets")
            }
            _ => Ok(self.events.iter().map(|event| event.token().0)),
        }
    }
}
