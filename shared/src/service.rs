//! What a service manager gives and is told: sockets opened beforehand, readiness, life.
//!
//! systemd's interfaces (`sd_listen_fds(3)`, `sd_notify(3)`), which others speak too. Without a
//! manager, all of it does nothing.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The listening sockets that the service manager opened for this process (`LISTEN_FDS`); none
/// without one. As they outlive the process, a restart refuses nobody: newcomers wait in them.
///
/// To be called before there are other threads, once: it takes the sockets and their variables.
///
/// # Errors
/// When one of them is no listening TCP socket, naming the descriptor.
pub fn sockets() -> io::Result<Vec<TcpListener>> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::with_capacity(given.len());
    for index in 0..given.len() {
        let socket = given.take_tcp_listener(index).map_err(|error| {
            let number = index + 3;
            io::Error::new(error.kind(), format!("descriptor {number} of LISTEN_FDS: {error}"))
        })?;
        sockets.extend(socket);
    }
    Ok(sockets)
}

/// Says that connections are served from now on, or again after [`reloading`].
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the configuration is being read anew; [`ready`] must follow, also if that fails.
pub fn reloading() {
    // systemd 253 and later wants the time along with it.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_no_clock) => tell(&[NotifyState::Reloading]),
    }
}

/// Says that the process is about to end, however long its last connections take.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the manager that the runtime still runs tasks, four times in the time that it allows
/// (`WatchdogSec=`). Never ends; pending for ever if the manager does not ask.
pub async fn watchdog() {
    watchdog_of(Vec::new()).await;
}

/// As [`watchdog`], and tells it only while every one of `pulses` goes on, too: those of further
/// runtimes, each of which runs [`Pulse::beat`].
pub async fn watchdog_of(pulses: Vec<Pulse>) {
    let mut look = every(4).await;
    let mut watched = Watched::new(pulses);
    loop {
        look.tick().await;
        if watched.all_live() {
            // A manager that does not read would block this thread, and its connections with it.
            let told = tokio::task::spawn_blocking(|| tell(&[NotifyState::Watchdog]));
            let _ = told.await;
        }
    }
}

/// A thread's sign of life. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Gives it twice between two looks of the watchdog, so that one that is late is not missed.
    /// Never ends; pending for ever if the manager does not ask.
    pub async fn beat(&self) {
        let mut beat = every(8).await;
        loop {
            beat.tick().await;
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What was seen of pulses.
#[derive(Debug)]
struct Watched(Vec<(Pulse, u64)>);

impl Watched {
    fn new(pulses: Vec<Pulse>) -> Self {
        Self(pulses.into_iter().map(|pulse| (pulse, 0)).collect())
    }

    /// Whether all have gone on since the last look.
    fn all_live(&mut self) -> bool {
        let mut all = true;
        for (pulse, seen) in &mut self.0 {
            let now = pulse.0.load(Ordering::Relaxed);
            all &= now != *seen;
            *seen = now;
        }
        all
    }
}

/// So many times in the time that the manager allows; never if it does not ask.
async fn every(times: u32) -> tokio::time::Interval {
    match sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) {
        Some(allowed) => tokio::time::interval((allowed / times).max(Duration::from_millis(1))),
        None => std::future::pending().await,
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_hangs_is_enough() {
        let pulses = [Pulse::default(), Pulse::default()];
        let mut watched = Watched::new(pulses.to_vec());
        let beat = |pulse: &Pulse| pulse.0.fetch_add(1, Ordering::Relaxed);
        pulses.iter().map(beat).for_each(drop);
        assert!(watched.all_live());
        beat(&pulses[0]);
        assert!(!watched.all_live());
        pulses.iter().map(beat).for_each(drop);
        assert!(watched.all_live());
        assert!(Watched::new(Vec::new()).all_live());
    }
}
