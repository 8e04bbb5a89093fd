//! The log that many servers share: a stream of NATS JetStream, whose sequence numbers are the
//! entries' seqs.
//!
//! Every server appends to it and follows it, so all of them apply the same entries in the same
//! order and hold the same rings, inboxes, marks and mids. An append is answered when its entry has
//! come back by that way: by then the stream has it as durably as its replicas promise.

mod connect;
mod entry;
mod follow;
mod peers;
mod publish;
mod stream;

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::connection::State as Connection;
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ServerAddr};
use parking_lot::Mutex;
use shared::shutdown::Shutdown;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AppendId, Appended, Appending, Counts, Entry, Log, Queued, Replica};
use crate::auth::Protectable;
use crate::error::Error;
use crate::id::{IdKey, Tag};
use crate::keep::{Settings, TagBounds};
use crate::limits;
use crate::mids;
use crate::protocol::{Outcome, Refusal};
use connect::Connections;
use follow::Follower;
use peers::{Peers, SharedPeers};
use stream::{Common, Found};

/// NATS acknowledges an append within this time, or its fate is unknown.
const ACKNOWLEDGED: Duration = Duration::from_secs(2);
/// What was acknowledged comes back within this time, or its sender is told that it may.
const COMES_BACK: Duration = Duration::from_secs(10);
/// How long the last words take at most, when the log ends.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Between looks at how far the reading of a long stream is.
const PROGRESS: Duration = Duration::from_secs(2);

/// Where the stream is and what it is like, as configured.
#[derive(Clone, PartialEq, Eq)]
pub struct Cluster {
    /// NATS servers; any of them will do.
    pub servers: Vec<ServerAddr>,
    /// The stream's name, and the first token of its subjects.
    pub stream: String,
    /// How to log in.
    pub credentials: Option<PathBuf>,
    /// Certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// On how many nodes an entry is before it is acknowledged.
    pub replicas: usize,
    /// How many bytes of entries the stream may hold; beyond, the oldest go.
    pub size: u64,
}

/// A stream that is there and agrees, before anything is read of it.
#[derive(Debug)]
pub struct Opened {
    runtime: Runtime,
    client: Client,
    connections: Connections,
    context: Context,
    cluster: Cluster,
    found: Found,
}

/// What the parts of the log have in common.
#[derive(Debug)]
struct Shared {
    /// This process's own name for its appends.
    writer: u64,
    waiting: Mutex<AllWaiting>,
    counts: Counts,
    peers: SharedPeers,
    /// Whether this server has read all that there is.
    caught_up: AtomicBool,
}

#[derive(Debug, Default)]
struct AllWaiting {
    /// Entries taken so far.
    number: u64,
    by_number: HashMap<u64, Waiting>,
    bytes: usize,
}

/// An append of which the entry has not come back.
#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Appended>,
    origin: Option<u64>,
    received: Instant,
    bytes: usize,
}

impl Opened {
    /// Connects, and makes the stream or checks that it agrees with this server's `settings` and
    /// `protected` pairs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if NATS cannot be reached; [`Error::Cluster`] names what is different.
    pub async fn open(
        cluster: &Cluster,
        settings: &Settings,
        protected: &[(Tag, Protectable)],
        id_key: &IdKey,
    ) -> Result<Self, Error> {
        let common = Common::of(settings, protected, id_key);
        let (runtime, cluster) = (runtime()?, cluster.clone());
        let opening = runtime.spawn(async move {
            let (client, connections, context) = connected(&cluster).await?;
            let found = stream::open(&context, &cluster, &common).await?;
            Ok((client, connections, context, cluster, found))
        });
        let opened: Result<_, Error> =
            opening.await.map_err(|_| Error::Defect("opening the stream ended early"))?;
        match opened {
            Ok((client, connections, context, cluster, found)) => {
                Ok(Self { runtime, client, connections, context, cluster, found })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// The name of the log's lifetime.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.found.epoch
    }

    /// The last entry that is gone: those kept begin right after it.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.found.floor
    }

    /// Follows the stream, and ends when `sink` has everything that was there at the beginning.
    /// `None` if `shutdown` came first.
    ///
    /// # Errors
    /// [`Error::Os`] without randomness; [`Error::Cluster`] if the stream cannot be followed.
    pub async fn start(
        self,
        sink: Arc<dyn Replica>,
        shutdown: &Shutdown,
    ) -> Result<Option<NatsLog>, Error> {
        let Self { runtime, client, connections, context, cluster, found } = self;
        let writer = getrandom::u64().map_err(Error::no_randomness)?;
        let shared = Arc::new(Shared {
            writer,
            waiting: Mutex::default(),
            counts: Counts::default(),
            peers: Arc::new(Peers::new(writer)),
            caught_up: AtomicBool::new(false),
        });
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let follower = Follower {
            context: context.clone(),
            connections,
            cluster: cluster.clone(),
            epoch: found.epoch,
            shared: Arc::clone(&shared),
            sink: Arc::clone(&sink),
            head: found.floor,
        };
        let following = runtime.spawn({
            let (stop, ended) = (stop.clone(), ended.clone());
            async move {
                let followed = follower.run(stop).await;
                if let Err(error) = &followed {
                    tracing::error!("{error}");
                }
                ended.cancel();
                followed
            }
        });
        let (queue, entries) = mpsc::channel(limits::LOG_QUEUE);
        let prefix = cluster.stream.clone();
        runtime.spawn(publish::run(context, prefix, Arc::clone(&shared), entries, stop.clone()));
        let (telling, peers) = (client.clone(), Arc::clone(&shared.peers));
        let (subject, until) = (format!("{}.counts", cluster.stream), stop.clone());
        let (told, last_words) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            if let Err(error) = peers.run(telling, subject, until).await {
                tracing::error!(%error, "the other servers' counts cannot be had");
            }
            let _ = told.send(());
        });
        let (runtime, last_words) = (Some(runtime), Mutex::new(last_words));
        let log = NatsLog { shared, sink, client, queue, stop, ended, runtime, last_words };
        tokio::select! {
            biased;
            () = shutdown.stopping() => return Ok(None),
            () = log.has_read(found.floor, found.head) => {}
            () = log.ended.cancelled() => {
                return match following.await {
                    Ok(Err(error)) => Err(error),
                    _ => Err(Error::Defect("following the stream ended early")),
                };
            }
        }
        Ok(Some(log))
    }
}

/// Gives the stream what this configuration says of what is kept and protected. Servers that run are
/// to be restarted one after the other then.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Cluster`].
pub async fn adopt(
    cluster: &Cluster,
    settings: &Settings,
    protected: &[(Tag, Protectable)],
    id_key: &IdKey,
) -> Result<(), Error> {
    let (_client, _, context) = connected(cluster).await?;
    stream::adopt(&context, cluster, &Common::of(settings, protected, id_key)).await
}

async fn connected(cluster: &Cluster) -> Result<(Client, Connections, Context), Error> {
    let (client, connections) = connect::connect(cluster).await?;
    let context = ContextBuilder::new()
        .timeout(ACKNOWLEDGED)
        .max_ack_inflight(publish::UNDER_WAY)
        .build(client.clone());
    Ok((client, connections, context))
}

/// The log's own thread: what it does must not wait for deliveries, nor they for it.
fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("log")
        .enable_all()
        .build()
        .map_err(|source| Error::Os { what: "starting threads", source })
}

fn unreachable(cluster: &Cluster, error: &dyn Display) -> Error {
    Error::Unavailable(format!("NATS at {cluster}: {error}"))
}

/// The log in NATS. Dropping it takes leave of the other servers and ends the thread; what waits
/// learns that there is no answer.
#[derive(Debug)]
pub struct NatsLog {
    shared: Arc<Shared>,
    sink: Arc<dyn Replica>,
    client: Client,
    queue: mpsc::Sender<(u64, Entry)>,
    stop: CancellationToken,
    ended: CancellationToken,
    runtime: Option<Runtime>,
    last_words: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl NatsLog {
    /// Cancelled when the stream is not followed any more.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Ends when everything up to `head` was applied, and says how far it is meanwhile.
    async fn has_read(&self, floor: u64, head: u64) {
        let (all, begun) = (head - floor, Instant::now());
        let mut told = begun;
        while self.sink.head() < head {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                tracing::info!("read {} of {all} entries", self.sink.head().saturating_sub(floor));
            }
        }
        tracing::info!(entries = all, ms = begun.elapsed().as_millis(), "the log was read");
    }
}

impl Log for NatsLog {
    fn append(&self, entry: Entry) -> Appending {
        self.take(entry).unwrap_or_else(|refusal| {
            self.shared.counts.failed(1, Outcome::Refused);
            Appending::done(Err(refusal))
        })
    }

    fn name(&self) -> &'static str {
        "nats"
    }

    fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    fn is_idle(&self) -> bool {
        self.shared.waiting.lock().by_number.is_empty()
    }

    fn queued(&self) -> Option<Queued> {
        let waiting = self.shared.waiting.lock();
        Some(Queued { entries: waiting.by_number.len(), bytes: waiting.bytes })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn peers(&self) -> Option<usize> {
        Some(self.shared.peers.alive())
    }

    fn not_ready(&self) -> Option<&'static str> {
        if self.client.connection_state() != Connection::Connected {
            return Some("NATS is not reachable");
        }
        let caught_up = self.shared.caught_up.load(Ordering::Relaxed);
        (!caught_up).then_some("reading what the other servers have appended")
    }
}

impl NatsLog {
    fn take(&self, entry: Entry) -> Result<Appending, Refusal> {
        let refused = |why| Err(Refusal::unavailable(Outcome::Refused, why));
        self.sink.admit()?;
        if self.client.connection_state() != Connection::Connected {
            return refused("NATS, which orders messages, is not reachable; retry in a moment");
        }
        let (answer, outcome) = oneshot::channel();
        let bytes = entry.size();
        let received = entry.received.unwrap_or_else(Instant::now);
        let waiting = Waiting { answer, origin: entry.origin, received, bytes };
        let mut all = self.shared.waiting.lock();
        let full =
            all.by_number.len() >= limits::LOG_QUEUE || all.bytes + bytes > limits::LOG_QUEUE_BYTES;
        let number = all.number + 1;
        // Under the lock, so that numbers leave in order.
        if full || self.queue.try_send((number, entry)).is_err() {
            return refused("NATS is behind; retry in a moment");
        }
        all.number = number;
        all.bytes += bytes;
        all.by_number.insert(number, waiting);
        Ok(Appending::waiting(outcome))
    }
}

impl Drop for NatsLog {
    fn drop(&mut self) {
        self.stop.cancel();
        // So that nobody waits for this server's counts.
        let _ = self.last_words.lock().recv_timeout(LAST_WORDS);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// Whoever waits for this entry, if this process has appended it.
    fn take(&self, append: Option<AppendId>) -> Option<Waiting> {
        let number = append.filter(|append| append.writer == self.writer)?.number;
        self.remove(number)
    }

    fn remove(&self, number: u64) -> Option<Waiting> {
        let mut all = self.waiting.lock();
        let waiting = all.by_number.remove(&number)?;
        all.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Its entry has its place in the log.
    fn done(&self, waiting: Waiting) -> oneshot::Sender<Appended> {
        self.counts.appended(1);
        self.counts.commits.lock().note(waiting.received.elapsed());
        waiting.answer
    }

    /// NATS has not acknowledged this append. Its entry may have come all the same.
    fn fail(&self, number: u64, outcome: Outcome) {
        let Some(waiting) = self.remove(number) else { return };
        self.counts.failed(1, outcome);
        let why = match outcome {
            Outcome::Refused => "NATS takes no messages at present; retry in a moment",
            Outcome::Unknown => {
                "NATS did not answer in time, and may have the message; retry with the same mid"
            }
        };
        let _ = waiting.answer.send(Err(Refusal::unavailable(outcome, why)));
    }

    /// Answers those whose entry has not come back in time.
    fn give_up(&self) {
        let all = self.waiting.lock();
        let late =
            all.by_number.iter().filter(|(_, waiting)| waiting.received.elapsed() > COMES_BACK);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        drop(all);
        for number in late {
            self.fail(number, Outcome::Unknown);
        }
    }
}

impl Common {
    fn of(settings: &Settings, protected: &[(Tag, Protectable)], id_key: &IdKey) -> Self {
        let line = |name: &str, bounds: TagBounds| {
            let [ring, inbox] = [bounds.ring, bounds.inbox]
                .map(|kept| format!("{} {} ms {} B", kept.count, kept.age.as_millis(), kept.bytes));
            format!("{name}: ring {ring}, inbox {inbox}")
        };
        let mut kept: BTreeSet<String> =
            settings.by_tag().map(|(tag, bounds)| line(tag.as_str(), bounds)).collect();
        kept.insert(line("any other tag", settings.usual()));
        kept.insert(format!("all together: {} B", settings.max_memory));
        let pair = |(tag, action): &(Tag, Protectable)| format!("{tag}:{}", action.name());
        Self {
            id_key: id_key.fingerprint(),
            kept,
            protected: protected.iter().map(pair).collect(),
            retention: settings.longest_age().saturating_add(mids::WINDOW),
        }
    }
}

/// The servers' addresses. What is used to log in is not among it.
impl Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self
            .servers
            .iter()
            .map(|server| format!("{}://{}:{}", server.scheme(), server.host(), server.port()));
        f.write_str(&addresses.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers: _, stream, credentials, ca, replicas, size } = self;
        write!(f, "{self} {stream} {credentials:?} {ca:?} {replicas} {size}")
    }
}
