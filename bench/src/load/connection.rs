//! A connection that never blocks: it connects, upgrades to a WebSocket, and then delivers bytes.

use std::io;
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};

use super::http;
use super::transport::Transport;

#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    phase: Phase,
    /// The beginning of a frame or an answer that has not arrived completely.
    rest: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    /// With the request that upgrades it, if it becomes a WebSocket.
    Connecting(Option<Vec<u8>>),
    Upgrading,
    Open,
}

pub(crate) enum Event<'a> {
    /// Bytes can be sent from now on.
    Open,
    /// Bytes that have arrived, from the first one that was not consumed.
    Bytes(&'a [u8]),
}

impl Connection {
    /// `upgrade` is the request that makes it a WebSocket, if it becomes one.
    pub(crate) fn new(transport: Transport, upgrade: Option<Vec<u8>>) -> Self {
        Self { transport, phase: Phase::Connecting(upgrade), rest: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.transport.stream()
    }

    /// Handles an event of the socket. `buffer` is shared by all connections of the thread.
    /// `handle` answers how many bytes it has consumed.
    ///
    /// # Errors
    /// Whatever ends the connection.
    pub(crate) fn on_ready(
        &mut self,
        buffer: &mut [u8],
        mut handle: impl FnMut(&mut Transport, Event<'_>) -> Result<usize>,
    ) -> Result<()> {
        if let Phase::Connecting(upgrade) = &mut self.phase {
            if let Some(error) = self.transport.stream().take_error()? {
                return Err(error).context("connecting");
            }
            if self.transport.stream().peer_addr().is_err() {
                return Ok(());
            }
            if let Some(upgrade) = upgrade.take() {
                self.transport.write(&upgrade).context("sending the request")?;
                self.phase = Phase::Upgrading;
            } else {
                self.phase = Phase::Open;
                handle(&mut self.transport, Event::Open)?;
            }
        }
        self.transport.flush().context("sending")?;
        loop {
            let before = self.rest.len();
            ensure!(before < buffer.len(), "a message is too long");
            buffer[..before].copy_from_slice(&self.rest);
            let count = match self.transport.read(&mut buffer[before..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading"),
            };
            let there = before + count;
            let mut used = 0;
            if matches!(self.phase, Phase::Upgrading)
                && let Some(response) = http::response(&buffer[..there])?
            {
                ensure!(response.status == 101, "the server answered {}", response.status);
                used = response.length;
                self.phase = Phase::Open;
                handle(&mut self.transport, Event::Open)?;
            }
            if matches!(self.phase, Phase::Open) {
                used += handle(&mut self.transport, Event::Bytes(&buffer[used..there]))?;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[used..there]);
            if there < buffer.len() && !self.transport.is_tls() {
                // A socket that delivers less than the buffer holds is empty, and `epoll` reports
                // when it is not any more.
                return Ok(());
            }
        }
    }
}
