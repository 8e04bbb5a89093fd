//! One sender that stays connected: over a WebSocket where the server takes that, else by `POST`.

use std::sync::Arc;

use anyhow::{Context as _, ensure};

use super::answers::{Way, answers};
use super::frame::{TEXT, client_frame};
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
                    let action = self.target.broadcast(tag, message, None);
                    bytes.extend(client_frame(TEXT, action.as_bytes()));
                }
                Way::Post => bytes.extend(self.target.post(tag, message, None)),
            }
        }
        self.wire.write(&bytes).context("publishing")?;
        let mut accepted = 0;
        while accepted < messages.len() {
            self.read().context("waiting for the server to accept")?;
            let answers = answers(self.way, &self.buffer[..self.there])?;
            self.wire.write(&answers.pongs).context("answering a ping")?;
            self.consume(answers.used);
            accepted += answers.accepted;
        }
        Ok(())
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
