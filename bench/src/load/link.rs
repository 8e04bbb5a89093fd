//! One connection that never waits: it begins, upgrades, and then hands over what comes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, bail, ensure};

use super::http;
use super::wire::Wire;

#[derive(Debug)]
pub(crate) struct Link {
    wire: Wire,
    stage: Stage,
    /// The beginning of what has not come completely.
    rest: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// With the request that follows, if the connection shall become a WebSocket.
    Connecting(Option<Vec<u8>>),
    Upgrading,
    Open,
}

/// What a link brings.
pub(crate) enum News<'a> {
    /// It is open: now bytes can be sent.
    Open,
    /// Bytes, from the first that was not done with.
    Bytes(&'a [u8]),
}

impl Link {
    /// A connection that has begun, and the request that makes it a WebSocket if it shall be one.
    pub(crate) fn new(wire: Wire, upgrade: Option<Vec<u8>>) -> Self {
        Self { wire, stage: Stage::Connecting(upgrade), rest: Vec::new() }
    }

    /// Goes on after something has changed with the socket. `buffer` is anyone's. `take` answers
    /// how many bytes it is done with.
    ///
    /// # Errors
    /// Whatever ends the connection.
    pub(crate) fn go_on(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&mut Wire, News<'_>) -> anyhow::Result<usize>,
    ) -> anyhow::Result<()> {
        if let Stage::Connecting(upgrade) = &mut self.stage {
            if let Some(error) = self.wire.stream().take_error()? {
                return Err(error).context("connecting");
            }
            if self.wire.stream().peer_addr().is_err() {
                return Ok(());
            }
            if let Some(upgrade) = upgrade.take() {
                self.wire.write(&upgrade).context("sending the request")?;
                self.stage = Stage::Upgrading;
            } else {
                self.stage = Stage::Open;
                take(&mut self.wire, News::Open)?;
            }
        }
        self.wire.flush().context("sending")?;
        loop {
            let before = self.rest.len();
            ensure!(before < buffer.len(), "a message is too long");
            buffer[..before].copy_from_slice(&self.rest);
            let count = match self.wire.read(&mut buffer[before..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading"),
            };
            let there = before + count;
            let mut used = 0;
            if matches!(self.stage, Stage::Upgrading)
                && let Some(response) = http::response(&buffer[..there])?
            {
                ensure!(response.status == 101, "the server answered {}", response.status);
                used = response.length;
                self.stage = Stage::Open;
                take(&mut self.wire, News::Open)?;
            }
            if matches!(self.stage, Stage::Open) {
                used += take(&mut self.wire, News::Bytes(&buffer[used..there]))?;
            }
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[used..there]);
            if there < buffer.len() && !self.wire.is_secret() {
                // A socket that gives less than it is asked for is empty, and tells when it is
                // not any more.
                return Ok(());
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}
