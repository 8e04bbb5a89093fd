//! The threads that serve connections: one for each core, each with its own runtime.
//!
//! A connection stays on one thread from its handshake to its end, so serving it wakes no other
//! thread. The thread is chosen when the connection is accepted. A runtime whose threads share
//! their tasks costs a fifth more CPU here (docs/internals.md has the figures).

mod cpu_load;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

use crate::log_throttle::LogThrottle;
use crate::service::Pulse;
use crate::shutdown::Shutdown;
use cpu_load::{CpuLoad, Now};

/// The most accepted connections that wait for one thread. If a thread has more to do, the
/// accepting thread serves the next ones.
const WAITING: usize = 256;

/// How many tasks run before the kernel is asked for events; tokio's default is 61. A task that
/// copies bytes between two sockets may take almost a millisecond. With the default, new
/// connections and timers would wait for 61 of these tasks.
const TASKS_BETWEEN_EVENTS: u32 = 8;

/// Creates the runtime of one thread that serves connections.
///
/// # Errors
/// An error if the system has no descriptors for the runtime.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().event_interval(TASKS_BETWEEN_EVENTS).build()
}

/// A connection that was accepted and admitted. Its socket is not registered with a runtime yet.
pub trait Serve: Send + 'static {
    /// Registers the socket with the runtime of this thread, whose number is `thread`, and serves
    /// the connection to its end.
    ///
    /// # Errors
    /// An error if the socket cannot be registered. The connection is then closed.
    fn serve(self, thread: usize) -> impl Future<Output = io::Result<()>> + Send + 'static;
}

/// All threads that serve connections.
#[derive(Debug)]
pub struct Workers<C: Serve> {
    shutdown: Shutdown,
    max_imbalance: usize,
    /// How many connections the accepting thread has. That thread also serves connections, as
    /// number 0.
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

/// A connection that moves to the thread that will serve it.
#[derive(Debug)]
struct Moving<C> {
    connection: C,
    load: Load,
}

/// A guard that counts as one connection of a thread until it is dropped.
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
    /// Starts `count - 1` threads, whose names begin with `name`; the calling thread is the first.
    /// The threads end when this value is dropped and the connections that `shutdown` tracks have
    /// ended.
    ///
    /// While the accepting thread is not busy, it may have up to `max_imbalance` more connections
    /// than another thread. Beyond that, new connections go to the other thread. Two threads that
    /// are often idle cost more than one that works.
    ///
    /// # Errors
    /// An error if the system has no further thread, or no descriptors for its runtime.
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

    /// Serves the connection on this thread. If this thread has `max_imbalance` more connections
    /// than the least loaded thread, or is busy and has more, that thread serves it. Must be called
    /// on the accepting thread.
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

    /// The least loaded of the other threads that are alive. A dead thread has load 0 and would
    /// otherwise always be chosen.
    fn least_loaded(&self) -> Option<&Worker<C>> {
        let alive = self.others.iter().filter(|worker| !worker.sender.is_closed());
        alive.min_by_key(|worker| worker.load.load(Ordering::Relaxed))
    }

    /// The pulses of all threads but the accepting one, for the watchdog.
    #[must_use]
    pub fn pulses(&self) -> Vec<Pulse> {
        self.others.iter().map(|worker| worker.pulse.clone()).collect()
    }

    /// The runtimes of all threads, in the order of their numbers. Must be called on the accepting
    /// thread.
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
            // This task ends with the runtime.
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

/// The warning is throttled: at a limit of the system, it may concern every connection.
static UNWATCHED: LogThrottle = LogThrottle::new();

fn spawn<C: Serve>(shutdown: &Shutdown, connection: C, number: usize, load: Load) {
    shutdown.spawn(async move {
        // The future of `serve` is created in here. If it were created outside and moved in, the
        // compiler would reserve its memory twice, a kilobyte for every connection.
        if let Err(error) = connection.serve(number).await
            && let Some(connections) = UNWATCHED.record()
        {
            tracing::warn!(connections, %error, "connections closed: their sockets cannot be watched");
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

    /// Measures how long arriving bytes wait while another task keeps the thread busy.
    #[test]
    fn a_busy_thread_looks_for_events_often() {
        let (mut far, near) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let runtime = runtime().unwrap();
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        runtime.spawn(poll_fn(move |cx| {
            // Run 70 is shortly after tokio would ask for events by default, after 61 runs.
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
