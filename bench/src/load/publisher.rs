//! One sender whose connection stays open: over a WebSocket where the server takes that, else by
//! `POST`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::answers::{PublishMethod, answers};
use super::connection::Connection;
use super::poll::{LONGEST_WAIT, Poll};
use super::target::{ClientProtocol, Target};

const BUFFER: usize = 64 * 1024;

/// Time for the server to upgrade the connection, and to accept messages.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Publisher {
    target: Arc<Target>,
    method: PublishMethod,
    poll: Poll,
    connection: Connection,
    buffer: Vec<u8>,
}

impl Publisher {
    /// Connects, for the method that costs the server least.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn connect(target: &Arc<Target>) -> Result<Self> {
        let (method, upgrade) = match target.protocol() {
            ClientProtocol::Actions => {
                (PublishMethod::WebSocket, Some(target.upgrade("publisher")))
            }
            ClientProtocol::Nchan => (PublishMethod::Post, None),
        };
        let poll = Poll::new()?;
        let connection = target.connect(&poll, 0, upgrade)?;
        let (target, buffer) = (Arc::clone(target), vec![0; BUFFER]);
        let mut publisher = Self { target, method, poll, connection, buffer };
        publisher.wait_for(0).context("the publisher's connection")?;
        Ok(publisher)
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
        self.connection.send(&bytes).context("publishing")?;
        self.wait_for(messages.len()).context("waiting for the server to accept")
    }

    /// Waits until the connection is upgraded and that many messages are accepted.
    fn wait_for(&mut self, messages: usize) -> Result<()> {
        let Self { method, poll, connection, buffer, .. } = self;
        let (mut accepted, begun) = (0, Instant::now());
        while connection.is_upgrading() || accepted < messages {
            ensure!(begun.elapsed() < LIMIT, "nothing for {LIMIT:?}");
            for _ in poll.wait(LONGEST_WAIT)? {
                connection.on_ready(buffer, |out, input| {
                    let answers = answers(*method, input)?;
                    accepted += answers.accepted;
                    out.extend(answers.pongs);
                    Ok(answers.used)
                })?;
            }
        }
        Ok(())
    }
}
