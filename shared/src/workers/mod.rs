//! The threads that serve connections: one per core, each with a runtime of its own.
//!
//! A connection stays on one thread from its handshake to its end, so no thread ever wakes another
//! for it and nothing of it is locked. Which one is decided when it is accepted. A runtime whose
//! threads share their tasks costs a fifth more CPU here (docs/internals.md has the figures).

mod cpu_load;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

use crate::service::Pulse;
use crate::shutdown::Shutdown;
use cpu_load::{CpuLoad, Now};

/// Newcomers that may wait for a thread. While it is so far behind, they are served by the one
/// that accepted them.
const WAITING: usize = 256;

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

/// A connection that was accepted and admitted. No runtime watches its socket yet.
pub trait Serve: Send + 'static {
    /// Registers the socket with the runtime of this thread, whose number is `thread`, and serves
    /// the connection to its end.
    ///
    /// # Errors
    /// When the socket cannot be registered. The connection is closed then.
    fn serve(self, thread: usize) -> impl Future<Output = io::Result<()>> + Send + 'static;
}

/// All threads that serve.
#[derive(Debug)]
pub struct Workers<C: Serve> {
    shutdown: Shutdown,
    max_imbalance: usize,
    /// Connections of the thread that accepts, which serves too, as number 0.
    here: Arc<AtomicUsize>,
    cpu_load: Mutex<CpuLoad>,
    others: Vec<Worker<C>>,
}

#[derive(Debug)]
struct Worker<C: Serve> {
    load: Arc<AtomicUsize>,
    sender: mpsc::Sender<Moving<C>>,
    handle: Handle,
    pulse: Pulse,
}

/// A connection on its way to the thread that will serve it.
#[derive(Debug)]
struct Moving<C> {
    connection: C,
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

impl<C: Serve> Workers<C> {
    /// Makes `count` threads serve, named after the program, of which the calling one is the first.
    /// The others end when this is dropped and the connections that `shutdown` tracks have ended.
    ///
    /// One that has time left may have `max_imbalance` connections more than another before newcomers go to
    /// that one: two threads that are half asleep cost more than one that is awake.
    ///
    /// # Errors
    /// When the system has no further thread, or no descriptors for it.
    pub fn start(
        name: &str,
        count: NonZeroUsize,
        max_imbalance: usize,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let others = (1..count.get()).map(|number| Worker::start(name, number, shutdown));
        Ok(Self {
            shutdown: shutdown.clone(),
            max_imbalance,
            here: Arc::default(),
            cpu_load: Mutex::default(),
            others: others.collect::<io::Result<_>>()?,
        })
    }

    /// Has this thread serve it, or the one with the fewest connections if this has far more, or
    /// more and no time left. Called on the thread that accepts.
    pub fn serve(&self, connection: C) {
        let is_busy = self.cpu_load.lock().is_busy(Now::of_this_thread());
        match self.better_worker(is_busy).map(|it| (it, it.sender.try_reserve())) {
            Some((worker, Ok(permit))) => {
                permit.send(Moving { connection, load: Load::new(&worker.load) });
            }
            _ => spawn(&self.shutdown, connection, 0, Load::new(&self.here)),
        }
    }

    fn better_worker(&self, is_busy: bool) -> Option<&Worker<C>> {
        let max_imbalance = if is_busy { 1 } else { self.max_imbalance };
        let here = self.here.load(Ordering::Relaxed);
        self.least_loaded()
            .filter(|worker| worker.load.load(Ordering::Relaxed) + max_imbalance <= here)
    }

    /// Of the other threads, the one with the fewest connections. One that has ended has none, and
    /// would be it for ever.
    fn least_loaded(&self) -> Option<&Worker<C>> {
        let alive = self.others.iter().filter(|worker| !worker.sender.is_closed());
        alive.min_by_key(|worker| worker.load.load(Ordering::Relaxed))
    }

    /// The signs of life of the other threads.
    #[must_use]
    pub fn pulses(&self) -> Vec<Pulse> {
        self.others.iter().map(|worker| worker.pulse.clone()).collect()
    }

    /// The runtimes of all threads, by number. Called on the thread that accepts.
    pub fn runtimes(&self) -> impl Iterator<Item = Handle> {
        [Handle::current()].into_iter().chain(self.others.iter().map(|it| it.handle.clone()))
    }
}

impl<C: Serve> Worker<C> {
    fn start(name: &str, number: usize, shutdown: &Shutdown) -> io::Result<Self> {
        let runtime = runtime()?;
        let handle = runtime.handle().clone();
        let (sender, mut arriving) = mpsc::channel::<Moving<C>>(WAITING);
        let shutdown = shutdown.clone();
        let pulse = Pulse::default();
        let beating = pulse.clone();
        let work = async move {
            // Ends with the runtime.
            tokio::spawn(async move { beating.beat().await });
            while let Some(moving) = arriving.recv().await {
                spawn(&shutdown, moving.connection, number, moving.load);
            }
            shutdown.ended().await;
        };
        thread::Builder::new()
            .name(format!("{name}-{number}"))
            .spawn(move || runtime.block_on(work))?;
        Ok(Self { load: Arc::default(), sender, handle, pulse })
    }
}

fn spawn<C: Serve>(shutdown: &Shutdown, connection: C, number: usize, load: Load) {
    shutdown.spawn(async move {
        // Made here: made outside and moved in, the compiler keeps room for it twice, which is a
        // kilobyte for every connection.
        if let Err(error) = connection.serve(number).await {
            tracing::warn!(%error, "connection closed: its socket cannot be watched");
        }
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

    const MAX_IMBALANCE: usize = 64;

    #[derive(Debug)]
    struct Nobody;

    impl Serve for Nobody {
        async fn serve(self, _: usize) -> io::Result<()> {
            Ok(())
        }
    }

    fn worker(load: usize) -> (Worker<Nobody>, mpsc::Receiver<Moving<Nobody>>) {
        let (sender, arriving) = mpsc::channel(1);
        let load = Arc::new(AtomicUsize::new(load));
        (Worker { load, sender, handle: Handle::current(), pulse: Pulse::default() }, arriving)
    }

    fn workers(here: usize, others: Vec<Worker<Nobody>>) -> Workers<Nobody> {
        Workers {
            shutdown: Shutdown::new(),
            max_imbalance: MAX_IMBALANCE,
            here: Arc::new(AtomicUsize::new(here)),
            cpu_load: Mutex::default(),
            others,
        }
    }

    #[tokio::test]
    async fn a_thread_that_has_ended_is_not_the_least_loaded() {
        let ((ended, arriving), (busy, _its), (idle, _own)) = (worker(0), worker(9), worker(5));
        drop(arriving);
        let workers = workers(0, vec![ended, busy, idle]);
        assert_eq!(workers.least_loaded().map(|it| it.load.load(Ordering::Relaxed)), Some(5));
    }

    #[tokio::test]
    async fn connections_leave_a_thread_that_is_far_ahead_or_busy() {
        let elsewhere = |here, there, is_busy| {
            let (worker, _arriving) = worker(there);
            workers(here, vec![worker]).better_worker(is_busy).is_some()
        };
        assert!(!elsewhere(MAX_IMBALANCE + 4, 5, false));
        assert!(elsewhere(MAX_IMBALANCE + 5, 5, false));
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
