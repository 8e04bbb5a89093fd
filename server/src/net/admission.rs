//! Whether newcomers can come in.
//!
//! Those who are connected have a right to what they need. So beyond the number of connections that
//! the process can hold, newcomers may ask one thing and leave: whoever listens has come to lifetime, but
//! the site must be able to send. With little memory left, or too many of those, newcomers are told to
//! come back, at no other cost than that answer.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use shared::answer::{Answer, json};
use shared::deadline::within;
use shared::linger::{LingerSocket, linger};
use shared::log_throttle::LogThrottle;
use shared::shutdown::Shutdown;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::counters::Counters;
use crate::limits;
use crate::net::available_memory;
use crate::net::listeners::AcceptedSocket;
use crate::protocol::{Outcome, Reference, Refusal, Reply};

/// How long what was measured of the memory holds.
const FRESH: Duration = Duration::from_millis(250);

/// Those who are told to come back do so spread over this time.
const RETURN: std::ops::Range<u64> = 3..10;

/// How long one who is turned away may take to say anything. The answer comes after that: some clients
/// take one that is there before they have asked for a fault.
const QUESTION: Duration = Duration::from_secs(1);

/// How long the answer may take. It fits into any socket's buffer.
const ANSWER: Duration = Duration::from_secs(1);

/// The places for connections, and the memory that must be left.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    brief: Arc<Semaphore>,
    away: Arc<Semaphore>,
    full: LogThrottle,
    spare_memory: u64,
    measured: Mutex<Option<(Instant, bool)>>,
    counters: Arc<Counters>,
}

/// A connection's permit, and its part in the count.
#[derive(Debug)]
pub(crate) struct ConnPermit {
    _permit: OwnedSemaphorePermit,
    live: Gauge,
    /// For how long it is.
    pub(crate) lifetime: Lifetime,
}

/// How long a connection may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// As long as it likes.
    Long,
    /// For one request, which must not become a WebSocket.
    Brief,
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.live.dec();
    }
}

impl Admission {
    /// For `most` connections, while so many bytes of memory are left.
    pub(crate) fn new(most: usize, spare_memory: u64, counters: Arc<Counters>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            brief: Arc::new(Semaphore::new(limits::BRIEF)),
            away: Arc::new(Semaphore::new(limits::TURNED_AWAY)),
            full: LogThrottle::new(),
            spare_memory,
            measured: Mutex::default(),
            counters,
        }
    }

    /// A permit, if there is one.
    pub(crate) fn admit(&self) -> Option<ConnPermit> {
        let Some((permit, lifetime)) = self.permit() else {
            self.counters.turned_away.inc();
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
        let one_of = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned().ok();
        if let Some(permit) = one_of(&self.places) {
            return Some((permit, Lifetime::Long));
        }
        if let Some(newcomers) = self.full.record() {
            tracing::warn!(
                newcomers,
                "every place is taken (--max-connections, the limit of open files): newcomers may \
                 send something, but whoever wants to listen is told to come back"
            );
        }
        Some((one_of(&self.brief)?, Lifetime::Brief))
    }

    /// Answers 503 to whatever the newcomer wants, and closes. Waits for nobody: those behind may find
    /// a permit.
    pub(crate) fn reject(&self, incoming: AcceptedSocket, shutdown: &Shutdown) {
        match Arc::clone(&self.away).try_acquire_owned() {
            Ok(leave) => shutdown.spawn(async move {
                let told = match incoming {
                    AcceptedSocket::Direct { socket, .. } | AcceptedSocket::Proxied(socket) => {
                        tell(socket.register()).await
                    }
                    AcceptedSocket::Unix(socket) => tell(socket.register()).await,
                };
                if let Err(error) = told {
                    tracing::debug!(%error, "could not be told to come back");
                }
                drop(leave);
            }),
            Err(_too_many) => match incoming {
                AcceptedSocket::Direct { socket, .. } | AcceptedSocket::Proxied(socket) => {
                    tell_at_once(&socket);
                }
                AcceptedSocket::Unix(socket) => tell_at_once(&socket),
            },
        }
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
        // Where the system does not say, there is enough.
        let scarce = available_memory::available().is_some_and(|left| left < self.spare_memory);
        if scarce && measured.is_none_or(|(_, before)| !before) {
            tracing::warn!("memory is running out; newcomers are told to come back");
        }
        *measured = Some((now, scarce));
        scarce
    }
}

async fn tell(stream: io::Result<impl AsyncWrite + LingerSocket + Unpin>) -> io::Result<()> {
    let mut stream = stream?;
    let answer = answer();
    let _ =
        within("a question", QUESTION, poll_fn(|context| stream.poll_read_ready(context))).await;
    tokio::time::timeout(ANSWER, stream.write_all(answer.as_bytes())).await??;
    linger(&stream).await;
    Ok(())
}

/// What nobody waits for may get lost: the kernel has room for it, but if the newcomer's question has not
/// come yet, or is a long one, closing may destroy the answer.
fn tell_at_once(stream: &impl AsFd) {
    let _ = rustix::io::read(stream, &mut [0; 4096]);
    let _ = rustix::io::write(stream, answer().as_bytes());
}

fn answer() -> String {
    let body = full().to_json(&Reference::default());
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        return_in(),
        body.len()
    )
}

/// The same for one who may send but has come to listen.
pub(crate) fn no_capacity() -> Answer {
    let body = full().to_json(&Reference::default());
    let mut answer = json(StatusCode::SERVICE_UNAVAILABLE, body);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(return_in()));
    answer
}

/// Whatever was wanted: nothing of it was done.
fn full() -> Reply {
    let detail = "this server is full; come back in a few seconds";
    Reply::Refused(Refusal::unavailable(Outcome::Refused, detail))
}

/// In seconds.
fn return_in() -> u64 {
    RETURN.start + getrandom::u64().unwrap_or_default() % (RETURN.end - RETURN.start)
}
