//! Binding, serving, stopping.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use shared::accept::Listener;
use shared::deadline::within;
use shared::descriptors::raise_limit;
use shared::shutdown::{Drained, Shutdown};
use shared::telemetry::{announce, announce_text};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::config::Config;
use crate::error::Error;
use crate::http::Site;
use crate::hub::Hub;
use crate::limits;
use crate::log::Chosen;
use crate::metrics::Metrics;
use crate::publish::Service;
use crate::shard::{Shard, ShardQueue};
use crate::socket::Sockets;

/// How long connections may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(2);

/// How long deliveries under way may take before that. Under load there is always one more.
const LAST_DELIVERIES: Duration = Duration::from_millis(300);

/// The sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    public: Vec<Listener>,
    admin: Option<Listener>,
}

impl Listeners {
    /// Takes the sockets `given` by a service manager for clients; binds what the configuration
    /// names if there are none. Must be called within a runtime.
    ///
    /// # Errors
    /// [`Error::Bind`]. An address that nobody asked for may be missing, with a warning.
    /// [`Error::Os`] for a socket that cannot be used.
    pub fn open(config: &Config, given: Vec<TcpListener>) -> Result<Self, Error> {
        let mut public = Vec::new();
        for socket in given {
            let unusable = |source| Error::Os { what: "using the socket given", source };
            public.push(Listener::adopt(socket).map_err(unusable)?);
        }
        let listen = if public.is_empty() { config.listen.as_slice() } else { &[] };
        for address in listen {
            match Listener::bind(address.socket) {
                Ok(listener) => public.push(listener),
                Err(error) if !address.given => {
                    tracing::warn!(address = %address.socket, %error, "not listening there");
                }
                Err(source) => return Err(Error::Bind { address: address.socket, source }),
            }
        }
        let admin = match config.admin {
            None => None,
            Some(address) => match Listener::bind(address.socket) {
                Ok(listener) => Some(listener),
                Err(error) if !address.given => {
                    tracing::warn!(
                        address = %address.socket, %error,
                        "no admin port; choose one with --admin ADDR:PORT, or --admin off"
                    );
                    None
                }
                Err(source) => return Err(Error::Bind { address: address.socket, source }),
            },
        };
        Ok(Self { public, admin })
    }

    /// The bound addresses for clients.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.public.iter().map(Listener::address).collect()
    }

    fn announce(&self) {
        for listener in &self.public {
            announce("server", listener.address());
        }
        if let Some(listener) = &self.admin {
            announce("admin", listener.address());
        }
    }
}

/// Serves until `shutdown` says stop, then ends the connections, 2 s at most.
///
/// # Errors
/// [`Error::Os`] if the system has no randomness to give at the start; what keeps the log from
/// being used; [`Error::Defect`] if a part of the server ended that must not.
pub async fn run(listeners: Listeners, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    for address in listeners.addresses().iter().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(%address, "reachable from other machines without TLS; a gate belongs in front");
    }
    if config.auth.protected().is_empty() {
        tracing::warn!("{}", crate::check::OPEN);
    }
    let queues: Vec<Arc<ShardQueue>> = (0..shards()).map(|_| Arc::default()).collect();
    let chosen = Chosen::open(&config)?;
    let (epoch, id_key) = (chosen.epoch.clone(), chosen.id_key.clone());
    let hub = Arc::new(Hub::new(epoch, queues.clone(), config.keeping, chosen.floor));
    let Some(started) = chosen.start(&hub, &shutdown).await? else { return Ok(()) };
    let service = Arc::new(Service {
        log: started.log,
        hub: Arc::clone(&hub),
        auth: config.auth,
        id_key,
        declared_tags: config.declared_tags,
        metrics: Arc::default(),
    });
    let sockets = Arc::new(Sockets {
        service: Arc::clone(&service),
        shards: queues.len(),
        idle_timeout: config.idle_timeout,
        next_number: AtomicU64::new(1),
        farewell: CancellationToken::new(),
    });
    let farewell = sockets.farewell.clone();
    let metrics = Arc::clone(&service.metrics);
    let admin = Arc::new(Admin { service: Arc::clone(&service), started: Instant::now() });
    let site = Arc::new(Site {
        service,
        sockets,
        bodies: Semaphore::new(limits::BODIES),
        origins: config.origins,
        demo: config.demo,
    });

    // Dropped, and so ended, only after the connections that they serve.
    let mut shards = JoinSet::new();
    for queue in queues {
        shards.spawn(Shard::new(Arc::clone(&hub), queue, config.ping_interval).run());
    }
    listeners.announce();
    if let Some(key) = &config.demo_key {
        announce_text("demo-key", &key.reveal());
    }
    let most = limits::CONNECTIONS.min(raise_limit().saturating_sub(limits::OTHER_FILES)).max(1);
    let room = Arc::new(Semaphore::new(most));
    let mut accepting = JoinSet::new();
    for listener in listeners.public {
        let (site, room) = (Arc::clone(&site), Arc::clone(&room));
        let (metrics, shutdown) = (Arc::clone(&metrics), shutdown.clone());
        accepting.spawn(accept(listener, room, move |stream, permit| {
            let guard = Guard::new(permit, &metrics);
            shutdown.spawn(Arc::clone(&site).serve(stream, guard, shutdown.clone()));
        }));
    }
    // Also the watchdog; all of it goes on until the last connection has ended.
    let mut administrators = JoinSet::new();
    if let Some(listener) = listeners.admin {
        administrators.spawn(shared::admin::run(listener, admin, shutdown.clone()));
    }

    administrators.spawn(shared::service::watchdog());
    shared::service::ready();
    let result = tokio::select! {
        () = shutdown.stopping() => Ok(()),
        // Its clients would get nothing any more, without noticing: better to start anew.
        _ended = shards.join_next() => Err(Error::Defect("a shard ended")),
        () = started.ended.cancelled() => Err(Error::Defect("the log ended")),
    };
    shutdown.stop();
    shared::service::stopping();
    // Closes the listening sockets.
    accepting.shutdown().await;
    // What was accepted is delivered before anybody is told to go.
    let _ = within("deliveries", LAST_DELIVERIES, hub.delivered()).await;
    farewell.cancel();
    match shutdown.drained(DRAIN).await {
        Drained::Clean => tracing::info!("stopped; every connection was ended"),
        Drained::Late(count) => tracing::warn!(count, "stopped; connections left after {DRAIN:?}"),
    }
    result
}

/// Takes a place, then a connection, for ever: beyond the last place newcomers wait in the
/// kernel's queue.
async fn accept(
    listener: Listener,
    room: Arc<Semaphore>,
    mut begin: impl FnMut(TcpStream, OwnedSemaphorePermit),
) {
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let (stream, _peer) = listener.accept().await;
        begin(stream, permit);
    }
}

/// A connection's place, and its part in the count.
#[derive(Debug)]
struct Guard {
    _permit: OwnedSemaphorePermit,
    live: Gauge,
}

impl Guard {
    fn new(permit: OwnedSemaphorePermit, metrics: &Metrics) -> Self {
        metrics.accepted.inc();
        metrics.live.inc();
        Self { _permit: permit, live: metrics.live.clone() }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.live.dec();
    }
}

/// One shard for each core.
fn shards() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
