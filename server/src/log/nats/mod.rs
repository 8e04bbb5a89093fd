//! The log that several servers share: a stream of NATS JetStream. The sequence numbers of the
//! stream are the seqs of the entries.
//!
//! Every server appends to the stream and reads it. So all servers apply the same entries in the
//! same order and keep the same messages, read marks and `mid`s. An append is answered when its
//! entry has come back from the stream. By then most of the nodes that hold the stream have stored
//! it.

mod cluster;
mod connect;
mod entry;
mod follow;
mod log;
mod peers;
mod progress;
mod publish;
mod reads;
mod runtime;
mod settings;
mod stream;
mod waiting;

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ServerAddr};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use shared::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Replica;
use crate::error::Error;
use crate::limits;
use connect::Connections;
use follow::Follower;
pub(crate) use log::NatsLog;
use runtime::Runtime;
pub(crate) use settings::{CommonHistory, CommonSettings};
use stream::StreamStart;
pub(crate) use stream::{adopt, inspect};
use waiting::Shared;

/// If NATS does not acknowledge an append within this time, the outcome is unknown.
const ACKNOWLEDGED: Duration = Duration::from_secs(2);

/// The configuration of the connection to NATS and of the stream.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct NatsConfig {
    /// The addresses of NATS nodes. The server connects to any of them.
    pub servers: Vec<ServerAddr>,
    /// The name of the stream, which is also the first part of its subjects.
    pub stream: String,
    /// The path of the file with the credentials for NATS.
    pub credentials: Option<PathBuf>,
    /// The path of a file with certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// How many NATS nodes hold the stream. An entry is acknowledged when most of them have stored
    /// it.
    pub replicas: usize,
    /// How many bytes of entries the stream may hold. Beyond this size NATS deletes the oldest
    /// entries.
    pub size: u64,
}

/// A stream that suits this server, before any entry is read from it.
#[derive(Debug)]
pub(crate) struct OpenedStream {
    runtime: Runtime,
    client: Client,
    connections: Connections,
    context: Context,
    cluster: NatsConfig,
    /// The first and the last entry of the log, and its epoch.
    pub(crate) found: StreamStart,
}

impl OpenedStream {
    /// Connects to NATS. Creates the stream, or checks that it agrees with this server's settings.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if NATS cannot be reached; [`Error::Cluster`] if the settings differ.
    pub(crate) async fn open(cluster: &NatsConfig, common: CommonSettings) -> Result<Self, Error> {
        let (runtime, cluster) = (Runtime::start()?, cluster.clone());
        let opening = runtime.spawn(async move {
            let (client, connections, context) = connected(&cluster, connect::START).await?;
            stream::check_max_payload(&client, &cluster)?;
            let found = stream::open(&context, &cluster, &common).await?;
            Ok::<_, Error>((client, connections, context, cluster, found))
        });
        let opened = opening.await.map_err(|_| Error::Defect("opening the stream ended early"))?;
        let (client, connections, context, cluster, found) = opened?;
        Ok(Self { runtime, client, connections, context, cluster, found })
    }

    /// Follows the stream. Completes when `sink` has applied every entry that the stream held at
    /// the start. Returns `None` if `shutdown` came first.
    ///
    /// # Errors
    /// [`Error::Os`] if the system gives no random number; [`Error::Cluster`] if the stream cannot
    /// be followed.
    pub(crate) async fn start(
        self,
        sink: Arc<dyn Replica>,
        shutdown: &Shutdown,
    ) -> Result<Option<NatsLog>, Error> {
        let Self { runtime, client, connections, context, cluster, found } = self;
        let writer = getrandom::u64().map_err(Error::no_randomness)?;
        let shared = Arc::new(Shared::new(writer, found.epoch_number(), connections.clone()));
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let follower = Follower {
            context: context.clone(),
            connections,
            cluster: cluster.clone(),
            epoch: found.epoch,
            shared: Arc::clone(&shared),
            sink: Arc::clone(&sink),
            head: found.floor,
            last: None,
            suspect_since: None,
            warned_at: None,
        };
        // The log has ended when any of these tasks has ended, also by a panic.
        let spawn = |task: BoxFuture<'static, ()>| {
            let guard = ended.clone().drop_guard();
            runtime.spawn(async move {
                let _ended = guard;
                task.await;
            });
        };
        let why = Arc::new(Mutex::new(None));
        let failure = Arc::clone(&why);
        let following = follower.run(stop.clone());
        spawn(Box::pin(async move {
            if let Err(error) = following.await {
                tracing::error!("{error}");
                *failure.lock() = Some(error);
            }
        }));
        let (queue, entries) = mpsc::channel(limits::LOG_QUEUE);
        let prefix = cluster.stream.clone();
        let (publishing, until) = (Arc::clone(&shared), stop.clone());
        spawn(Box::pin(publish::run(context, prefix, publishing, entries, until)));
        spawn(Box::pin(publish::expire(Arc::clone(&shared), stop.clone())));
        let (told, last_report) = std::sync::mpsc::channel();
        let (telling, peers, until) = (client.clone(), Arc::clone(&shared.peers), stop.clone());
        let subject = format!("{}.counts", cluster.stream);
        spawn(Box::pin(async move {
            if let Err(error) = peers.run(telling, subject, until).await {
                tracing::error!(
                    %error,
                    "the other servers' counts of listeners cannot be received; restart this server"
                );
            }
            let _ = told.send(());
        }));
        let (reads, marks) = mpsc::channel(reads::QUEUE);
        let (telling, prefix) = (client.clone(), cluster.stream.clone());
        let reading = reads::run(telling, prefix, writer, marks, Arc::clone(&sink), stop.clone());
        spawn(Box::pin(async move {
            if let Err(error) = reading.await {
                tracing::error!(
                    %error,
                    "the other servers' read marks cannot be received; restart this server"
                );
            }
        }));
        let last_report = Mutex::new(last_report);
        let log =
            NatsLog { shared, sink, client, queue, reads, stop, ended, why, last_report, runtime };
        let ended = log.ended();
        let ready = async {
            log.has_read(found.floor, found.head).await;
            log.shared.peers.settled().await;
        };
        tokio::select! {
            biased;
            () = shutdown.stopping() => return Ok(None),
            () = ready => {}
            error = ended => return Err(error),
        }
        Ok(Some(log))
    }
}

async fn connected(
    cluster: &NatsConfig,
    patience: Duration,
) -> Result<(Client, Connections, Context), Error> {
    let (client, connections) = connect::connect(cluster, patience).await?;
    let context = ContextBuilder::new()
        .timeout(ACKNOWLEDGED)
        .max_ack_inflight(publish::UNDER_WAY)
        .build(client.clone());
    Ok((client, connections, context))
}

fn unreachable(cluster: &NatsConfig, error: &dyn Display) -> Error {
    Error::Unavailable(format!("NATS at {cluster}: {error}"))
}

impl NatsConfig {
    fn error(&self, reason: String) -> Error {
        Error::Cluster { stream: self.stream.clone(), reason }
    }
}

/// Shows the addresses of the NATS nodes, without credentials.
impl Display for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self
            .servers
            .iter()
            .map(|server| format!("{}://{}:{}", server.scheme(), server.host(), server.port()));
        f.write_str(&addresses.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers: _, stream, credentials, ca, replicas, size } = self;
        write!(f, "{self} {stream} {credentials:?} {ca:?} {replicas} {size}")
    }
}
