//! One sender whose connection stays open: over a WebSocket where the server takes that, else by
//! `POST`.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use super::answers::{PublishMethod, answers};
use super::http;
use super::target::{ClientProtocol, Target};
use super::transport::Transport;

const BUFFER: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Publisher {
    target: Arc<Target>,
    transport: Transport,
    method: PublishMethod,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have arrived and are not consumed.
    filled: usize,
}

impl Publisher {
    /// Connects, for the method that costs the server least.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn connect(target: &Arc<Target>) -> Result<Self> {
        let method = match target.protocol() {
            ClientProtocol::Actions => PublishMethod::WebSocket,
            ClientProtocol::Nchan => PublishMethod::Post,
        };
        let transport = target.connect()?;
        let (target, buffer) = (Arc::clone(target), vec![0; BUFFER]);
        let mut publisher = Self { target, transport, method, buffer, filled: 0 };
        if method == PublishMethod::WebSocket {
            publisher.upgrade().context("the publisher's connection")?;
        }
        Ok(publisher)
    }

    fn upgrade(&mut self) -> Result<()> {
        self.transport.write(&self.target.upgrade("publisher"))?;
        loop {
            self.read()?;
            if let Some(response) = http::response(&self.buffer[..self.filled])? {
                ensure!(response.status == 101, "the server answered {}", response.status);
                self.consume(response.length);
                return Ok(());
            }
        }
    }

    /// Publishes messages, each on a tag, in one write, and waits until the server has accepted all
    /// of them.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn publish(&mut self, messages: &[(&str, String)]) -> Result<()> {
        let bytes = messages
            .iter()
            .flat_map(|(tag, message)| self.target.publication(self.method, tag, message, None));
        let bytes: Vec<u8> = bytes.collect();
        self.transport.write(&bytes).context("publishing")?;
        let mut accepted = 0;
        while accepted < messages.len() {
            self.read().context("waiting for the server to accept")?;
            let answers = answers(self.method, &self.buffer[..self.filled])?;
            self.transport.write(&answers.pongs).context("answering a ping")?;
            self.consume(answers.used);
            accepted += answers.accepted;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        ensure!(self.filled < self.buffer.len(), "an answer is too long");
        let count = self.transport.read(&mut self.buffer[self.filled..])?;
        ensure!(count > 0, "the server closed the publisher's connection");
        self.filled += count;
        Ok(())
    }

    fn consume(&mut self, used: usize) {
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
    }
}
