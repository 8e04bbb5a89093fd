//! Binding, serving, stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use shared::deadline::within;
use shared::descriptors::raise_limit;
use shared::shutdown::{Drained, Shutdown};
use shared::telemetry::announce_text;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::config::Config;
use crate::error::Error;
use crate::http::Site;
use crate::hub::Hub;
use crate::limits;
use crate::listeners::{Arrival, Listeners, Way};
use crate::log::Chosen;
use crate::proxied;
use crate::publish::Service;
use crate::rates::Rates;
use crate::shard::{Shard, ShardQueue};
use crate::socket::Sockets;

/// How long connections may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(2);

/// How long deliveries under way may take before that. Under load there is always one more.
const LAST_DELIVERIES: Duration = Duration::from_millis(300);

/// Serves until `shutdown` says stop, then ends the connections, 2 s at most.
///
/// # Errors
/// [`Error::Os`] if the system has no randomness to give at the start; what keeps the log from
/// being used; [`Error::Defect`] if a part of the server ended that must not.
pub async fn run(listeners: Listeners, config: Config, shutdown: Shutdown) -> Result<(), Error> {
    for address in listeners.plain().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(%address, "reachable from other machines without TLS; a gate belongs in front");
    }
    if listeners.public.iter().all(|way| matches!(way, Way::Plain(_))) {
        tracing::info!(
            "whoever comes through a gate comes from this machine: limits for each address do not \
             apply; see --listen-proxy"
        );
    }
    if config.policy.auth.protected().is_empty() {
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
        policy: ArcSwap::from_pointee(config.policy),
        rates: Rates::default(),
        id_key,
    });
    let sockets = Arc::new(Sockets {
        service: Arc::clone(&service),
        shards: queues.len(),
        idle_timeout: config.idle_timeout,
        next_number: AtomicU64::new(1),
        farewell: CancellationToken::new(),
    });
    let farewell = sockets.farewell.clone();
    let connections = Arc::new(AtomicUsize::new(0));
    let admin = Arc::new(Admin {
        service: Arc::clone(&service),
        connections: Arc::clone(&connections),
        started: Instant::now(),
    });
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
    for way in listeners.public {
        let (site, room) = (Arc::clone(&site), Arc::clone(&room));
        let (connections, shutdown) = (Arc::clone(&connections), shutdown.clone());
        accepting.spawn(accept(way, room, move |arrival, permit| {
            let guard = Guard::new(permit, &connections);
            shutdown.spawn(welcome(Arc::clone(&site), arrival, guard, shutdown.clone()));
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
    way: Way,
    room: Arc<Semaphore>,
    mut begin: impl FnMut(Arrival, OwnedSemaphorePermit),
) {
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        begin(way.accept().await, permit);
    }
}

/// Finds out who it is, then serves it.
async fn welcome(site: Arc<Site>, arrival: Arrival, guard: Guard, shutdown: Shutdown) {
    let error = match arrival {
        Arrival::Plain { stream, from } => {
            let address = (!from.is_loopback()).then_some(from);
            return site.serve(stream, address, guard, shutdown).await;
        }
        Arrival::Proxied(mut stream) => match proxied::client(&mut stream).await {
            Ok(address) => return site.serve(stream, address, guard, shutdown).await,
            Err(error) => error,
        },
        Arrival::Unix(mut stream) => match proxied::client(&mut stream).await {
            Ok(address) => return site.serve(stream, address, guard, shutdown).await,
            Err(error) => error,
        },
    };
    tracing::debug!(%error, "closed: it did not say for whom it connects");
}

/// A connection's place, and its part in the count.
#[derive(Debug)]
struct Guard {
    _permit: OwnedSemaphorePermit,
    connections: Arc<AtomicUsize>,
}

impl Guard {
    fn new(permit: OwnedSemaphorePermit, connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self { _permit: permit, connections: Arc::clone(connections) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One shard for each core.
fn shards() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
