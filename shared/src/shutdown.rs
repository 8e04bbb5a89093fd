//! Shutdown in phases: stop accepting, notify the connections, wait for them, give up at a limit.

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
    /// Every tracked task ended in time.
    Clean,
    /// The time-out came first. This many tasks were still running.
    Late(usize),
}

/// The stop signal, and the tasks that must end after it. Clones share the signal and the tasks.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// The same information as in `stop`, but readable without a lock.
    stopping: Arc<AtomicBool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Creates a shutdown that is not stopping and tracks no task.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the stop signal. Calling it again does nothing.
    pub fn stop(&self) {
        // The flag is set before `cancel`, because the tasks that `cancel` wakes read it.
        self.stopping.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Whether [`Shutdown::stop`] was called. This is already true when [`Shutdown::stopping`]
    /// completes.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Completes when [`Shutdown::stop`] is called. Cancel safe.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Spawns `task` and tracks it, so that [`Shutdown::drained`] waits for it.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Completes when [`Shutdown::drained`] was called and all tracked tasks have ended. Cancel
    /// safe.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// Waits until all tracked tasks have ended, for at most `limit`.
    pub async fn drained(&self, limit: Duration) -> Drained {
        self.tasks.close();
        match tokio::time::timeout(limit, self.tasks.wait()).await {
            Ok(()) => Drained::Clean,
            Err(_) => Drained::Late(self.tasks.len()),
        }
    }
}

/// Receives SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs handlers for both signals. From then on they do not end the process by themselves.
    ///
    /// # Errors
    /// An error if the operating system refuses the handlers.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal, and returns its name. Cancel safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Receives SIGHUP, which requests a reload.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Installs a handler for the signal. From then on it does not end the process.
    ///
    /// # Errors
    /// An error if the operating system refuses the handler.
    pub fn install() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime has ended, so no signal comes any more.
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
