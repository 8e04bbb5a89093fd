//! Runs the server: starts its parts, serves, and stops.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use shared::deadline::within;
use shared::descriptors::raise_limit;
use shared::shutdown::{Drained, Shutdown};
use shared::telemetry::announce_text;
use shared::workers::Workers;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::access::rate_limit::RateLimiter;
use crate::config::{Config, Demo};
use crate::conn::outbox::Backlog;
use crate::counters::Counters;
use crate::error::Error;
use crate::fanout::Shard;
use crate::http::Site;
use crate::http::admin::Admin;
use crate::http::memory_budget::MemoryBudget;
use crate::hub::Hub;
use crate::hub::delivery_queue::DeliveryQueue;
use crate::limits;
use crate::net::admission::Admission;
use crate::net::dispatch::{self, Accepted};
use crate::net::listeners::{Listeners, PublicListener};
use crate::net::proxy_protocol;
use crate::open_log::OpenLog;
use crate::protocol::ErrorCode;
use crate::publish::Service;
use crate::reload::{self, Source};
use crate::sender_key::SenderKey;
use crate::ws::socket::Sockets;

/// The time in which all parts must end after a stop.
const DRAIN: Duration = Duration::from_secs(2);

/// The part of [`DRAIN`] in which accepted messages are delivered. After it, connections are
/// closed.
const LAST_DELIVERIES: Duration = Duration::from_secs(1);

/// Serves until `shutdown` is told to stop, then ends the connections within 2 s.
///
/// # Errors
/// [`Error::Os`] if the system provides no random numbers or threads; an error of the log, if it
/// cannot be used; [`Error::Defect`] if an essential part of the server ended.
pub async fn run(
    listeners: Listeners,
    config: Config,
    source: Source,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let fixed = config.fixed();
    for address in listeners.plain().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "other machines can connect to this address without TLS; listen on 127.0.0.1 and put a \
             gate in front"
        );
    }
    if listeners.public.iter().all(|way| matches!(way, PublicListener::Plain(_))) {
        tracing::info!(
            "behind a gate every visitor appears as this machine, so limits for each address do \
             not apply; to apply them, use --listen-proxy (for sockets of systemd, \
             FileDescriptorName=proxy)"
        );
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(closed) = config.policy.closed_to_all().filter(|_| !config.makes_key) {
        tracing::warn!("{closed}");
    }
    let workers = Workers::start("server", config.threads.0, dispatch::MAX_IMBALANCE, &shutdown)
        .map_err(|source| Error::Os { what: "starting threads", source })?;
    let workers = Arc::new(workers);
    let queues: Vec<Arc<DeliveryQueue>> = workers.runtimes().map(|_| Arc::default()).collect();
    let opened = tokio::select! {
        biased;
        () = shutdown.stopping() => return Ok(()),
        opened = OpenLog::open(&config) => opened?,
    };
    let (epoch, id_key) = (opened.epoch.clone(), opened.id_key.clone());
    let mut sender_key = SenderKey::new(config.data.clone(), listeners.plain().next());
    let mut policy = config.policy;
    if config.makes_key {
        sender_key.permit(&mut policy);
    }
    let (shards, limits) = (queues.clone(), config.registrations);
    let hub = Arc::new(Hub::new(epoch, shards, config.history, limits, opened.floor));
    let Some(started) = opened.start(&hub, &shutdown).await? else { return Ok(()) };
    let service = Arc::new(Service {
        log: started.log,
        hub: Arc::clone(&hub),
        policy: ArcSwap::from_pointee(policy),
        rates: RateLimiter::default(),
        id_key,
        counters: Arc::new(Counters::new(ErrorCode::NAMES)),
        backlog: Arc::new(Backlog::new(config.max_backlog)),
        at_work: TaskTracker::new(),
    });
    let sockets = Arc::new(Sockets {
        service: Arc::clone(&service),
        idle_timeout: config.idle_timeout,
        next_number: AtomicU64::new(1),
        notice: Arc::default(),
    });
    let notice = Arc::clone(&sockets.notice);
    let deliveries = Arc::clone(&service);
    let counters = Arc::clone(&service.counters);
    let admin = Arc::new(Admin { service: Arc::clone(&service), started: Instant::now() });
    let site = Arc::new(Site {
        service: Arc::clone(&service),
        sockets,
        bodies: MemoryBudget::new(limits::BODIES),
        answers: MemoryBudget::new(limits::ANSWERS),
        origins: config.origins,
        demo: config.demo,
        inspect_first: proxy_protocol::expect_none,
    });

    // The shards end when this set is dropped. At that time their connections have ended.
    let mut shards = JoinSet::new();
    for (queue, runtime) in queues.into_iter().zip(workers.runtimes()) {
        let shard = Shard::new(Arc::clone(&hub), queue, config.ping_interval);
        shards.spawn_on(shard.run(), &runtime);
    }
    listeners.announce();
    if let Some(key) = &config.demo_key {
        announce_text("demo-key", &key.reveal());
    }
    let files = raise_limit().saturating_sub(limits::OTHER_FILES);
    let most = config.max_connections.min(files).max(1);
    let admission = Arc::new(Admission::new(most, config.spare_memory, counters));
    let mut accepting = JoinSet::new();
    for way in listeners.public {
        let (site, admission, workers) =
            (Arc::clone(&site), Arc::clone(&admission), Arc::clone(&workers));
        accepting.spawn(accept(way, admission, site, workers, shutdown.clone()));
    }
    // The admin port and the watchdog run until the last connection has ended. The reload ends with
    // the stop.
    let mut administrators = JoinSet::new();
    if let Some(listener) = listeners.admin {
        administrators.spawn(shared::admin::run(listener, admin, shutdown.clone()));
    }

    administrators.spawn(shared::service::watchdog_of(workers.pulses()));
    let demo = Demo { served: config.demo, key: config.demo_key };
    administrators.spawn(reload::follow(
        source,
        fixed,
        (demo, sender_key),
        service,
        shutdown.clone(),
    ));
    shared::service::ready();
    let result = tokio::select! {
        () = shutdown.stopping() => Ok(()),
        // If a shard has ended, its clients would receive nothing and not notice. A restart is
        // better.
        _ended = shards.join_next() => Err(Error::Defect("a shard ended")),
        error = started.ended => Err(error),
    };
    shutdown.stop();
    let begun = Instant::now();
    shared::service::stopping();
    // This closes the listening sockets.
    accepting.shutdown().await;
    // Accepted messages are delivered before any connection is closed.
    notice.stop_reading();
    let _ = within("deliveries", LAST_DELIVERIES, deliveries.delivered()).await;
    notice.close();
    match shutdown.drained(DRAIN.saturating_sub(begun.elapsed())).await {
        Drained::Clean => tracing::info!("stopped; every connection was ended"),
        Drained::Late(count) => {
            tracing::warn!(count, "stopped; the remaining connections were cut after {DRAIN:?}")
        }
    }
    result
}

/// Accepts connections until the future is dropped. Connections that get no permit are rejected.
async fn accept(
    way: PublicListener,
    admission: Arc<Admission>,
    site: Arc<Site>,
    workers: Arc<Workers<Accepted>>,
    shutdown: Shutdown,
) {
    loop {
        let incoming = way.accept(&site.service.counters).await;
        match admission.admit() {
            Some(permit) => {
                let (site, shutdown) = (Arc::clone(&site), shutdown.clone());
                workers.serve(Accepted { incoming, permit, site, shutdown });
            }
            None => admission.reject(incoming, &shutdown),
        }
    }
}
