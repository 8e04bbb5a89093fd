//! The service manager: the sockets that it has opened, and notifications about readiness and life.
//!
//! This module uses systemd's interfaces (`sd_listen_fds(3)`, `sd_notify(3)`), which other managers
//! implement too. Without a manager its functions do nothing.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// A listening socket that the service manager has opened for this process (`LISTEN_FDS`).
#[derive(Debug)]
pub struct Given {
    /// The socket.
    pub socket: GivenSocket,
    /// The name of the socket (`LISTEN_FDNAMES`): `FileDescriptorName=` of the unit, or else the
    /// name of the unit. Empty if the manager sends no names.
    pub name: String,
}

/// A listening TCP or Unix socket.
#[derive(Debug)]
pub enum GivenSocket {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// The sockets that the service manager passes. Without a manager the list is empty. The sockets
/// outlive the process: during a restart, new connections wait in their queues and are not refused.
///
/// Must be called once, before other threads start, because it takes over the sockets and removes
/// their environment variables.
///
/// # Errors
/// An error with the number of the descriptor, if one is not a stream socket. Also an error if
/// there are more names than sockets or fewer, because the names can then not be assigned.
pub fn sockets() -> io::Result<Vec<Given>> {
    let mut given = ListenFd::from_env();
    let names = names(std::env::var_os("LISTEN_FDNAMES"), given.len())?;
    let mut sockets = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let tcp = given.take_tcp_listener(index).map(|socket| socket.map(GivenSocket::Tcp));
        let socket = tcp.or_else(|_no_tcp| {
            let unix = given.take_unix_listener(index).map(|socket| socket.map(GivenSocket::Unix));
            unix.map_err(|error| unusable(index, error.kind(), "no TCP or Unix stream socket"))
        })?;
        sockets.extend(socket.map(|socket| Given { socket, name }));
    }
    Ok(sockets)
}

/// Does the same as [`sockets`], for a program that ignores names and only listens on TCP.
///
/// # Errors
/// The same as for [`sockets`]; also if a descriptor is not a TCP socket.
pub fn tcp_sockets() -> io::Result<Vec<TcpListener>> {
    let tcp = |(index, given): (usize, Given)| match given.socket {
        GivenSocket::Tcp(socket) => Ok(socket),
        GivenSocket::Unix(_) => Err(unusable(index, io::ErrorKind::InvalidInput, "no TCP socket")),
    };
    sockets()?.into_iter().enumerate().map(tcp).collect()
}

fn unusable(index: usize, kind: io::ErrorKind, why: &str) -> io::Error {
    // The first three descriptors are stdin, stdout and stderr.
    io::Error::new(
        kind,
        format!("descriptor {} of LISTEN_FDS is {why}; correct the socket unit", index + 3),
    )
}

/// The names of `count` sockets, from a list such as `a:b:c`.
fn names(listed: Option<OsString>, count: usize) -> io::Result<Vec<String>> {
    let Some(listed) = listed.filter(|listed| count > 0 && !listed.is_empty()) else {
        return Ok(vec![String::new(); count]);
    };
    let listed = listed.to_string_lossy();
    let names: Vec<String> = listed.split(':').map(str::to_owned).collect();
    if names.len() == count {
        return Ok(names);
    }
    let told = format!(
        "LISTEN_FDNAMES has {} names for {count} sockets; give each socket one name",
        names.len()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, told))
}

/// Reports that connections are served from now on. Also ends a phase that [`reloading`] began.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the configuration is being reloaded. [`ready`] must follow, even if the reload
/// fails.
pub fn reloading() {
    // systemd 253 and later needs the time in the same message.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_no_clock) => tell(&[NotifyState::Reloading]),
    }
}

/// Reports that the process is stopping. Its last connections may take any time after that.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Reports to the manager that the runtime still runs tasks. There are four reports within the time
/// that the manager allows (`WatchdogSec=`). The future never completes; without a watchdog it does
/// nothing.
pub async fn watchdog() {
    watchdog_of(Vec::new()).await;
}

/// Does the same as [`watchdog`], but reports only if each of `pulses` has also beaten since the
/// last report. These belong to other runtimes, each of which runs [`Pulse::beat`].
pub async fn watchdog_of(pulses: Vec<Pulse>) {
    let mut look = every(4).await;
    let mut watched = Watched::new(pulses);
    loop {
        look.tick().await;
        if watched.all_live() {
            // If the manager does not read, the write blocks. This must not block the connections
            // of this thread.
            let told = tokio::task::spawn_blocking(|| tell(&[NotifyState::Watchdog]));
            let _ = told.await;
        }
    }
}

/// A counter that shows whether a thread still runs tasks. Clones share the same counter.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Increments the counter twice between two checks of the watchdog, so a late beat does no
    /// harm. The future never completes; without a watchdog it does nothing.
    pub async fn beat(&self) {
        let mut beat = every(8).await;
        loop {
            beat.tick().await;
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The pulses, each with its counter at the last check.
#[derive(Debug)]
struct Watched(Vec<(Pulse, u64)>);

impl Watched {
    fn new(pulses: Vec<Pulse>) -> Self {
        Self(pulses.into_iter().map(|pulse| (pulse, 0)).collect())
    }

    /// Whether all counters have increased since the last check.
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

/// A timer that ticks `times` times within the time that the manager allows. Without a watchdog,
/// the future never completes.
async fn every(times: u32) -> tokio::time::Interval {
    match sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) {
        Some(allowed) => tokio::time::interval((allowed / times).max(Duration::from_millis(1))),
        None => std::future::pending().await,
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager (NOTIFY_SOCKET)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_its_name() {
        let of = |listed: Option<&str>, count| names(listed.map(Into::into), count);
        assert_eq!(of(Some("server.socket:proxy"), 2).unwrap(), ["server.socket", "proxy"]);
        assert_eq!(of(Some("proxy"), 1).unwrap(), ["proxy"]);
        // A manager sends no names without sockets, but the variable may come from a parent
        // process.
        assert_eq!(of(Some("proxy"), 0).unwrap(), [""; 0]);
        assert_eq!(of(None, 2).unwrap(), ["", ""]);
        assert_eq!(of(Some(""), 2).unwrap(), ["", ""]);
        let error = of(Some("proxy"), 2).unwrap_err().to_string();
        assert_eq!(error, "LISTEN_FDNAMES has 1 names for 2 sockets; give each socket one name");
    }

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
