//! Waiting for many sockets on one thread.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::interrupt::Interrupt;

/// Events taken at once.
const EVENTS: usize = 1_024;

/// How often an interruption is looked for, so how long to wait at most.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(100);

/// An edge-triggered `epoll`: each change is told once, so who is told must read all there is.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    interrupt: Interrupt,
}

impl Poll {
    /// # Errors
    /// When the system has none to give.
    pub(crate) fn new(interrupt: Interrupt) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS), interrupt })
    }

    /// Tells of `socket` under a number from now on, until it is closed.
    ///
    /// # Errors
    /// When the system has no room for that.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> anyhow::Result<()> {
        let about = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(number as u64), about)?)
    }

    /// Waits until something has changed, `most` at most, and answers where.
    ///
    /// # Errors
    /// When the user wants to end.
    pub(crate) fn wait(
        &mut self,
        most: Duration,
    ) -> anyhow::Result<impl Iterator<Item = usize> + use<'_>> {
        self.interrupt.check()?;
        let most = Timespec::try_from(most.min(LOOK_UP))?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&most)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for sockets"),
        }
        Ok(self.events.drain(..).filter_map(|event| usize::try_from(event.data.u64()).ok()))
    }
}
