//! What a service manager gives and is told: sockets opened beforehand, readiness, life.
//!
//! systemd's interfaces (`sd_listen_fds(3)`, `sd_notify(3)`), which others speak too. Without a
//! manager, all of it does nothing.

use std::io;
use std::net::TcpListener;
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

/// Tells the manager that the runtime still runs tasks, twice in the time that it allows
/// (`WatchdogSec=`). Never ends; pending for ever if the manager does not ask.
pub async fn watchdog() {
    let Some(allowed) = sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) else {
        return std::future::pending().await;
    };
    let mut beat = tokio::time::interval((allowed / 2).max(Duration::from_millis(1)));
    loop {
        beat.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}
