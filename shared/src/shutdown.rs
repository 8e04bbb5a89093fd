//! Stopping in phases: stop accepting, tell the connections, wait for them, give up at a limit.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How the wait for the last connections ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every tracked task ended by itself.
    Clean,
    /// The limit came first; this many tasks were still running.
    Late(usize),
}

/// The stop signal and the tasks that must end after it. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// As `stop` is, to be looked at without a lock.
    stopping: Arc<AtomicBool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing tracked, not stopping.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everyone to stop. Repeating it does nothing.
    pub fn stop(&self) {
        // First: whom the second wakes looks at it.
        self.stopping.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Whether [`Shutdown::stop`] was called. True by the time that [`Shutdown::stopping`] ends.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends when the stop is called. Cancel safe.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Runs `task` on the runtime and counts it among those that [`Shutdown::drained`] awaits.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Ends when the tracked tasks have ended after a call of [`Shutdown::drained`]. Cancel safe.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// Waits until the tracked tasks have ended, `limit` at most.
    pub async fn drained(&self, limit: Duration) -> Drained {
        self.tasks.close();
        match tokio::time::timeout(limit, self.tasks.wait()).await {
            Ok(()) => Drained::Clean,
            Err(_) => Drained::Late(self.tasks.len()),
        }
    }
}

/// SIGTERM and SIGINT, each delivery counted.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes over both signals: from here on they no longer end the process by themselves.
    ///
    /// # Errors
    /// When the operating system refuses the handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal's name. Cancel safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGHUP: read again what may have changed.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Takes over the signal: from here on it no longer ends the process.
    ///
    /// # Errors
    /// When the operating system refuses the handler.
    pub fn install() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime has ended; nothing comes any more.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drained_waits_for_tasks_and_counts_the_late() {
        let shutdown = Shutdown::new();
        let worker = shutdown.clone();
        shutdown.spawn(async move { worker.stopping().await });
        shutdown.stop();
        assert_eq!(shutdown.drained(Duration::from_secs(1)).await, Drained::Clean);

        let stuck = Shutdown::new();
        stuck.spawn(std::future::pending());
        stuck.stop();
        assert_eq!(stuck.drained(Duration::from_secs(1)).await, Drained::Late(1));
    }
}
