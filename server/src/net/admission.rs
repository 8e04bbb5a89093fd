//! Decides which connections are admitted.
//!
//! A new connection must not take resources that the open ones need. Beyond `--max-connections`, a
//! connection may send one request and is then closed, so that the site can still send messages
//! although no more clients can listen. If memory is low, or too many connections beyond
//! `--max-connections` are open, a new connection is rejected with 503.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use shared::deadline::within;
use shared::linger::{LingerSocket, linger};
use shared::log_throttle::LogThrottle;
use shared::shutdown::Shutdown;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::counters::Counters;
use crate::http::Lifetime;
use crate::http::replies::{return_in, server_full};
use crate::limits;
use crate::net::available_memory;
use crate::net::listeners::AcceptedSocket;
use crate::protocol::Reference;

/// How long the result of a memory measurement is used.
const FRESH: Duration = Duration::from_millis(250);

/// The time-out for the request of a rejected client. The answer is written afterwards, because
/// some clients treat an answer that precedes their request as an error.
const QUESTION: Duration = Duration::from_secs(1);

/// The time-out for writing the answer, which fits into the buffer of any socket.
const ANSWER: Duration = Duration::from_secs(1);

/// The permits for connections, and the memory that must stay available.
#[derive(Debug)]
pub(crate) struct Admission {
    long: Arc<Semaphore>,
    brief: Arc<Semaphore>,
    rejected: Arc<Semaphore>,
    full: LogThrottle,
    spare_memory: u64,
    measured: Mutex<Option<(Instant, bool)>>,
    counters: Arc<Counters>,
}

/// The permit of one open connection.
#[derive(Debug)]
pub(crate) struct ConnPermit {
    _permit: OwnedSemaphorePermit,
    live: Gauge,
    pub(crate) lifetime: Lifetime,
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.live.dec();
    }
}

impl Admission {
    /// Admits up to `most` connections while at least `spare_memory` bytes are available. With a
    /// `spare_memory` of 0 the available memory is not checked.
    pub(crate) fn new(most: usize, spare_memory: u64, counters: Arc<Counters>) -> Self {
        Self {
            long: Arc::new(Semaphore::new(most)),
            brief: Arc::new(Semaphore::new(limits::BRIEF)),
            rejected: Arc::new(Semaphore::new(limits::REJECTED)),
            full: LogThrottle::new(),
            spare_memory,
            measured: Mutex::default(),
            counters,
        }
    }

    /// Returns a permit, or `None` if the connection must be rejected.
    pub(crate) fn admit(&self) -> Option<ConnPermit> {
        let Some((permit, lifetime)) = self.permit() else {
            self.counters.rejected.inc();
            return None;
        };
        self.counters.accepted.inc();
        self.counters.live.inc();
        Some(ConnPermit { _permit: permit, live: self.counters.live.clone(), lifetime })
    }

    fn permit(&self) -> Option<(OwnedSemaphorePermit, Lifetime)> {
        if self.is_memory_scarce() {
            return None;
        }
        let one_of = |permits: &Arc<Semaphore>| Arc::clone(permits).try_acquire_owned().ok();
        if let Some(permit) = one_of(&self.long) {
            return Some((permit, Lifetime::Long));
        }
        if let Some(connections) = self.full.record() {
            tracing::warn!(
                connections,
                "the limit of connections is reached (--max-connections or the limit of open files): \
                 new connections may send, but not listen"
            );
        }
        Some((one_of(&self.brief)?, Lifetime::Brief))
    }

    /// Answers 503 and closes the connection. The next connection need not wait for that.
    pub(crate) fn reject(&self, incoming: AcceptedSocket, shutdown: &Shutdown) {
        let Ok(permit) = Arc::clone(&self.rejected).try_acquire_owned() else {
            return answer_at_once(match &incoming {
                AcceptedSocket::Direct { socket, .. } | AcceptedSocket::Proxied(socket) => {
                    socket.as_fd()
                }
                AcceptedSocket::Unix(socket) => socket.as_fd(),
            });
        };
        shutdown.spawn(async move {
            let answered = match incoming {
                AcceptedSocket::Direct { socket, .. } | AcceptedSocket::Proxied(socket) => {
                    answer_and_close(socket.register()).await
                }
                AcceptedSocket::Unix(socket) => answer_and_close(socket.register()).await,
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "the 503 could not be written");
            }
            drop(permit);
        });
    }

    fn is_memory_scarce(&self) -> bool {
        if self.spare_memory == 0 {
            return false;
        }
        let mut measured = self.measured.lock();
        let now = Instant::now();
        if let Some((at, scarce)) = *measured
            && now.saturating_duration_since(at) < FRESH
        {
            return scarce;
        }
        // If the system does not report the available memory, it is assumed to be enough.
        let scarce = available_memory::available().is_some_and(|left| left < self.spare_memory);
        if scarce && measured.is_none_or(|(_, before)| !before) {
            tracing::warn!("memory is running out; new connections are rejected with 503");
        }
        *measured = Some((now, scarce));
        scarce
    }
}

async fn answer_and_close(
    stream: io::Result<impl AsyncWrite + LingerSocket + Unpin>,
) -> io::Result<()> {
    let mut stream = stream?;
    let answer = answer();
    let _ =
        within("a question", QUESTION, poll_fn(|context| stream.poll_read_ready(context))).await;
    tokio::time::timeout(ANSWER, stream.write_all(answer.as_bytes())).await??;
    linger(&stream).await;
    Ok(())
}

/// Answers without waiting for the request. If the request has not arrived or is long, the close
/// resets the connection, and the answer may be lost.
fn answer_at_once(stream: BorrowedFd<'_>) {
    let _ = rustix::io::read(stream, &mut [0; 4096]);
    let _ = rustix::io::write(stream, answer().as_bytes());
}

fn answer() -> String {
    let body = server_full().to_json(&Reference::default());
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        return_in(),
        body.len()
    )
}
