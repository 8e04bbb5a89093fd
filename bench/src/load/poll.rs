//! Waiting for many sockets on one thread.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};

use crate::interrupt;

/// Events taken at once.
const EVENTS: usize = 1_024;

/// The longest wait: after it, the interrupt is checked.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// An edge-triggered `epoll`: it reports each change once, so its user must read until the socket is
/// empty.
pub(crate) struct Poll {
    poll: mio::Poll,
    events: Events,
}

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { poll: mio::Poll::new()?, events: Events::with_capacity(EVENTS) })
    }

    /// Reports the events of `socket` under a number until it is closed.
    pub(crate) fn add(&self, socket: &impl AsRawFd, number: usize) -> Result<()> {
        let (fd, events) = (socket.as_raw_fd(), Interest::READABLE | Interest::WRITABLE);
        Ok(self.poll.registry().register(&mut SourceFd(&fd), Token(number), events)?)
    }

    /// Waits for events, at most `limit`, and answers the numbers of their sockets.
    ///
    /// # Errors
    /// When the user wants to end.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
    ) -> Result<impl Iterator<Item = usize> + use<'_>> {
        interrupt::check()?;
        match self.poll.poll(&mut self.events, Some(limit.min(LONGEST_WAIT))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(error).context("waiting for sockets")
            }
            _ => Ok(self.events.iter().map(|event| event.token().0)),
        }
    }
}
