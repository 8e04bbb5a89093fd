//! The threads that serve connections: one per core, each with a runtime of its own.
//!
//! A connection stays on one thread from its handshake to its end, so no thread ever wakes another
//! for it and nothing of it is locked. Which one is decided when it is accepted. A runtime whose
//! threads share their tasks costs a fifth more CPU here (docs/internals.md has the figures).

mod effort;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use shared::service::Pulse;
use shared::shutdown::Shutdown;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::crowd::Handshake;
use crate::error::Error;
use crate::session::{self, Seat};
use effort::{Effort, Now};

/// Newcomers that may wait for a thread. While it is so far behind, they are served by the one
/// that accepted them.
const WAITING: usize = 256;

/// How many connections more than another thread one that has time left may have before newcomers go
/// to that one: two threads that are half asleep cost a fifth more than one that is awake.
const AHEAD: usize = 64;

/// Tasks that run before the kernel is asked what has become ready. tokio asks after 61, and one that
/// relays may last the better part of a millisecond: on a busy thread, newcomers and timers would
/// wait for 61 of those.
const TASKS_BETWEEN_EVENTS: u32 = 8;

/// A runtime for one thread that serves connections.
///
/// # Errors
/// When the system has no descriptors for it.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().event_interval(TASKS_BETWEEN_EVENTS).build()
}

/// A connection that was accepted and admitted.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) client: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) seat: Seat,
    pub(crate) handshake: Handshake,
}

/// All threads that serve.
#[derive(Debug)]
pub(crate) struct Workers {
    shutdown: Shutdown,
    /// Connections of the thread that accepts, which serves too.
    here: Arc<AtomicUsize>,
    effort: Mutex<Effort>,
    others: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    load: Arc<AtomicUsize>,
    sender: mpsc::Sender<Moving>,
    pulse: Pulse,
}

/// A newcomer on its way to its thread; its socket belongs to no runtime.
#[derive(Debug)]
struct Moving {
    client: std::net::TcpStream,
    peer: SocketAddr,
    seat: Seat,
    handshake: Handshake,
    load: Load,
}

/// One connection among those of a thread, until it is dropped.
#[derive(Debug)]
struct Load(Arc<AtomicUsize>);

impl Load {
    fn new(of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(of))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Makes `count` threads serve, of which the calling one is the first. The others end when
    /// this is dropped and the connections that `shutdown` tracks have ended.
    pub(crate) fn start(count: usize, shutdown: &Shutdown) -> Result<Self, Error> {
        let others = (1..count).map(|number| Worker::start(number, shutdown));
        Ok(Self {
            shutdown: shutdown.clone(),
            here: Arc::default(),
            effort: Mutex::default(),
            others: others.collect::<Result<_, _>>()?,
        })
    }

    /// Has this thread serve it, or the one with the fewest connections if this has far more, or
    /// more and no time left. Called on the thread that accepts.
    pub(crate) fn serve(&self, newcomer: Newcomer) {
        let is_busy = self.effort.lock().is_great(Now::of_this_thread());
        match self.better_place(is_busy).map(|it| (it, it.sender.try_reserve())) {
            Some((worker, Ok(way))) => worker.send(way, newcomer),
            _ => spawn(&self.shutdown, newcomer, Load::new(&self.here)),
        }
    }

    fn better_place(&self, is_busy: bool) -> Option<&Worker> {
        let ahead = if is_busy { 1 } else { AHEAD };
        let here = self.here.load(Ordering::Relaxed);
        self.idlest().filter(|worker| worker.load.load(Ordering::Relaxed) + ahead <= here)
    }

    /// Of the other threads, the one with the fewest connections. One that has ended has none, and
    /// would be it for ever.
    fn idlest(&self) -> Option<&Worker> {
        let alive = self.others.iter().filter(|worker| !worker.sender.is_closed());
        alive.min_by_key(|worker| worker.load.load(Ordering::Relaxed))
    }

    /// The signs of life of the other threads.
    pub(crate) fn pulses(&self) -> Vec<Pulse> {
        self.others.iter().map(|worker| worker.pulse.clone()).collect()
    }
}

impl Worker {
    fn start(number: usize, shutdown: &Shutdown) -> Result<Self, Error> {
        let failed = |source| Error::System { what: "start a thread", source };
        let runtime = runtime().map_err(failed)?;
        let (sender, mut arriving) = mpsc::channel(WAITING);
        let shutdown = shutdown.clone();
        let pulse = Pulse::default();
        let beating = pulse.clone();
        let work = async move {
            // Ends with the runtime.
            tokio::spawn(async move { beating.beat().await });
            while let Some(moving) = arriving.recv().await {
                arrive(&shutdown, moving);
            }
            shutdown.ended().await;
        };
        thread::Builder::new()
            .name(format!("gate-{number}"))
            .spawn(move || runtime.block_on(work))
            .map_err(failed)?;
        Ok(Self { load: Arc::default(), sender, pulse })
    }

    fn send(&self, way: mpsc::Permit<'_, Moving>, newcomer: Newcomer) {
        let Newcomer { client, peer, seat, handshake } = newcomer;
        match client.into_std() {
            Ok(client) => {
                way.send(Moving { client, peer, seat, handshake, load: Load::new(&self.load) });
            }
            Err(error) => tracing::warn!(%peer, %error, "closed: it cannot change threads"),
        }
    }
}

fn arrive(shutdown: &Shutdown, moving: Moving) {
    let Moving { client, peer, seat, handshake, load } = moving;
    match TcpStream::from_std(client) {
        Ok(client) => spawn(shutdown, Newcomer { client, peer, seat, handshake }, load),
        Err(error) => tracing::warn!(%peer, %error, "closed: it cannot be watched"),
    }
}

fn spawn(shutdown: &Shutdown, newcomer: Newcomer, load: Load) {
    let Newcomer { client, peer, seat, handshake } = newcomer;
    shutdown.spawn(async move {
        session::serve(client, peer, seat, handshake).await;
        drop(load);
    });
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicU32;
    use std::task::Poll;

    use super::*;

    fn worker(load: usize) -> (Worker, mpsc::Receiver<Moving>) {
        let (sender, arriving) = mpsc::channel(1);
        let load = Arc::new(AtomicUsize::new(load));
        (Worker { load, sender, pulse: Pulse::default() }, arriving)
    }

    fn workers(here: usize, others: Vec<Worker>) -> Workers {
        Workers {
            shutdown: Shutdown::new(),
            here: Arc::new(AtomicUsize::new(here)),
            effort: Mutex::default(),
            others,
        }
    }

    #[test]
    fn a_thread_that_has_ended_is_not_the_idlest() {
        let ((ended, arriving), (busy, _its), (idle, _own)) = (worker(0), worker(9), worker(5));
        drop(arriving);
        let workers = workers(0, vec![ended, busy, idle]);
        assert_eq!(workers.idlest().map(|it| it.load.load(Ordering::Relaxed)), Some(5));
    }

    #[test]
    fn newcomers_leave_a_thread_that_is_far_ahead_or_busy() {
        let elsewhere = |here, there, is_busy| {
            let (worker, _arriving) = worker(there);
            workers(here, vec![worker]).better_place(is_busy).is_some()
        };
        assert!(!elsewhere(AHEAD + 4, 5, false));
        assert!(elsewhere(AHEAD + 5, 5, false));
        assert!(!elsewhere(5, 5, true));
        assert!(elsewhere(6, 5, true));
    }

    /// Bytes that arrive while others keep the thread busy.
    #[test]
    fn a_busy_thread_looks_for_events_often() {
        let (mut far, near) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let runtime = runtime().unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        runtime.spawn(poll_fn(move |cx| {
            // Soon after tokio's own 61.
            if counted.fetch_add(1, Ordering::Relaxed) == 70 {
                far.write_all(b"!").unwrap();
            }
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let waited = runtime.spawn(async move {
            let near = tokio::net::UnixStream::from_std(near).unwrap();
            near.readable().await.unwrap();
            runs.load(Ordering::Relaxed) - 70
        });
        let waited = runtime.block_on(waited).unwrap();
        assert!(waited <= 2 * TASKS_BETWEEN_EVENTS, "{waited} runs of another task");
    }
}
