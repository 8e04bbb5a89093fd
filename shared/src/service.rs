//! What a service manager gives and is told: sockets opened beforehand, readiness, life.
//!
//! systemd's interfaces (`sd_listen_fds(3)`, `sd_notify(3)`), which others speak too. Without a
//! manager, all of it does nothing.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// A listening socket that the service manager opened for this process (`LISTEN_FDS`).
#[derive(Debug)]
pub struct Given {
    /// What it is.
    pub socket: GivenSocket,
    /// What the manager calls it (`LISTEN_FDNAMES`): `FileDescriptorName=` of its unit, or else the
    /// unit's own name. Empty from a manager that knows no names.
    pub name: String,
}

/// A listening socket of either kind.
#[derive(Debug)]
pub enum GivenSocket {
    /// At an address.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener),
}

/// The sockets that the service manager gives; none without one. As they outlive the process, a
/// restart refuses nobody: newcomers wait in them.
///
/// To be called before there are other threads, once: it takes the sockets and their variables.
///
/// # Errors
/// When one of them is no stream socket, naming the descriptor; when there are more or fewer names
/// than sockets, as nobody knows then which is which.
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

/// As [`sockets`], for a program to which names mean nothing and that listens on TCP only.
///
/// # Errors
/// As [`sockets`]; also when one of them is no TCP socket.
pub fn tcp_sockets() -> io::Result<Vec<TcpListener>> {
    let tcp = |(index, given): (usize, Given)| match given.socket {
        GivenSocket::Tcp(socket) => Ok(socket),
        GivenSocket::Unix(_) => Err(unusable(index, io::ErrorKind::InvalidInput, "no TCP socket")),
    };
    sockets()?.into_iter().enumerate().map(tcp).collect()
}

fn unusable(index: usize, kind: io::ErrorKind, why: &str) -> io::Error {
    // The first three are stdin, stdout and stderr.
    io::Error::new(kind, format!("descriptor {} of LISTEN_FDS: {why}", index + 3))
}

/// One name for each of `count` sockets, out of `a:b:c`.
fn names(listed: Option<OsString>, count: usize) -> io::Result<Vec<String>> {
    let Some(listed) = listed.filter(|listed| count > 0 && !listed.is_empty()) else {
        return Ok(vec![String::new(); count]);
    };
    let listed = listed.to_string_lossy();
    let names: Vec<String> = listed.split(':').map(str::to_owned).collect();
    if names.len() == count {
        return Ok(names);
    }
    let told = format!("LISTEN_FDNAMES has {} names for {count} sockets", names.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, told))
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
    fn each_socket_has_its_name() {
        let of = |listed: Option<&str>, count| names(listed.map(Into::into), count);
        assert_eq!(of(Some("server.socket:proxy"), 2).unwrap(), ["server.socket", "proxy"]);
        assert_eq!(of(Some("proxy"), 1).unwrap(), ["proxy"]);
        // No manager has names for sockets that it does not give, but one before it may have.
        assert_eq!(of(Some("proxy"), 0).unwrap(), [""; 0]);
        assert_eq!(of(None, 2).unwrap(), ["", ""]);
        assert_eq!(of(Some(""), 2).unwrap(), ["", ""]);
        let error = of(Some("proxy"), 2).unwrap_err().to_string();
        assert_eq!(error, "LISTEN_FDNAMES has 1 names for 2 sockets");
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
