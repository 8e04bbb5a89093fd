//! Waiting for many sockets on one thread.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::interrupt::Interrupt;

/// Events taken at once.
const EVENTS: usize = 1_024;

/// The longest wait: after it, the interrupt is checked.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// An edge-triggered `epoll`: it reports each change once, so its user must read until the socket is
/// empty.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    interrupt: Interrupt,
}

impl Poll {
    pub(crate) fn new(interrupt: Interrupt) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS), interrupt })
    }

    /// Reports the events of `socket` under a number until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> Result<()> {
        let events = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(number as u64), events)?)
    }

    /// Waits for events, at most `limit`, and answers the numbers of their sockets.
    ///
    /// # Errors
    /// When the user wants to end.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
    ) -> Result<impl Iterator<Item = usize> + use<'_>> {
        self.interrupt.check()?;
        let limit = Timespec::try_from(limit.min(LONGEST_WAIT))?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for sockets"),
        }
        Ok(self.events.drain(..).filter_map(|event| usize::try_from(event.data.u64()).ok()))
    }
}
