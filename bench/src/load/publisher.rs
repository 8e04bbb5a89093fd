//! One sender that stays connected: over a WebSocket where the server takes that, else by `POST`.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

use super::frame::{CLOSE, Frame, PING, PONG, TEXT, client_frame, scan};
use super::http;
use super::target::{Dialect, Target};
use super::wire::Wire;

const BUFFER: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Publisher {
    target: Arc<Target>,
    wire: Wire,
    way: Way,
    buffer: Vec<u8>,
    /// How much of `buffer` has come and is not done with.
    there: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    WebSocket,
    Post,
}

impl Publisher {
    /// Connects by the way that costs the server least.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn connect(target: &Arc<Target>) -> anyhow::Result<Self> {
        let way = match target.dialect() {
            Dialect::Actions => Way::WebSocket,
            Dialect::Nchan => Way::Post,
        };
        let wire = target.connect()?;
        let (target, buffer) = (Arc::clone(target), vec![0; BUFFER]);
        let mut publisher = Self { target, wire, way, buffer, there: 0 };
        if way == Way::WebSocket {
            publisher.upgrade().context("the publisher's connection")?;
        }
        Ok(publisher)
    }

    fn upgrade(&mut self) -> anyhow::Result<()> {
        self.wire.write(&self.target.upgrade("publisher"))?;
        loop {
            self.read()?;
            if let Some(response) = http::response(&self.buffer[..self.there])? {
                ensure!(response.status == 101, "the server answered {}", response.status);
                self.consume(response.length);
                return Ok(());
            }
        }
    }

    /// Publishes messages, each on a tag, back to back in one write, and waits until the server
    /// has accepted all of them.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn publish(&mut self, messages: &[(&str, String)]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for (tag, message) in messages {
            match self.way {
                Way::WebSocket => {
                    let action = self.target.broadcast(tag, message);
                    bytes.extend(client_frame(TEXT, action.as_bytes()));
                }
                Way::Post => bytes.extend(self.target.post(tag, message)),
            }
        }
        self.wire.write(&bytes).context("publishing")?;
        let mut accepted = 0;
        while accepted < messages.len() {
            self.read().context("waiting for the server to accept")?;
            accepted += match self.way {
                Way::WebSocket => self.replies()?,
                Way::Post => self.responses()?,
            };
        }
        Ok(())
    }

    fn replies(&mut self) -> anyhow::Result<usize> {
        let mut accepted = 0;
        let Self { wire, buffer, there, .. } = self;
        let used = scan(&buffer[..*there], |frame| match frame {
            Frame { opcode: TEXT, payload } if payload.starts_with(b"{\"ok\":") => {
                accepted += 1;
                Ok(())
            }
            Frame { opcode: PING, payload } => Ok(wire.write(&client_frame(PONG, payload))?),
            Frame { opcode: TEXT | CLOSE, payload } => {
                bail!("the server said: {}", String::from_utf8_lossy(payload))
            }
            _ => Ok(()),
        })?;
        self.consume(used);
        Ok(accepted)
    }

    fn responses(&mut self) -> anyhow::Result<usize> {
        let mut accepted = 0;
        while let Some(response) = http::response(&self.buffer[..self.there])? {
            let status = response.status;
            ensure!((200..300).contains(&status), "the server answered {status}");
            accepted += 1;
            self.consume(response.length);
        }
        Ok(accepted)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        ensure!(self.there < self.buffer.len(), "an answer is too long");
        let count = self.wire.read(&mut self.buffer[self.there..])?;
        ensure!(count > 0, "the server closed the publisher's connection");
        self.there += count;
        Ok(())
    }

    fn consume(&mut self, used: usize) {
        self.buffer.copy_within(used..self.there, 0);
        self.there -= used;
    }
}
