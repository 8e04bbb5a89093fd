//! The life of a gate: bind nothing, start everything, accept, stop.

use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::accept::Listener;
use shared::service;
use shared::shutdown::{Drained, Hangups, Shutdown};
use shared::workers::Workers;
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::backend::Backend;
use crate::config::Config;
use crate::conn::ConnPermit;
use crate::dispatch::{Accepted, MAX_IMBALANCE};
use crate::error::Error;
use crate::gate::{Gate, Served};
use crate::heap_trim;
use crate::limits::{ConnLimiter, Drain};
use crate::listeners::Listeners;
use crate::metrics::Metrics;
use crate::reload;
use crate::tls::Resumption;

/// Forwards connections from `listeners` until `shutdown` stops, then closes those that are left,
/// one after the other over `config.drain`, and says how that ended.
///
/// The certificate is read again every `config.reload_interval` and at each of `hangups`.
///
/// The calling thread accepts and serves, and `config.threads - 1` more serve beside it.
///
/// At most `config.max_connections` are served at a time; more of them wait in the kernel's
/// queue. Each listener keeps a place for its next connection, so there are as many places as
/// listeners at least. Dropping the future closes the listeners; connections stay `shutdown`'s to
/// wait for.
///
/// # Errors
/// When the TLS library refuses the certificate and key that `config` holds, or the system another
/// thread.
pub async fn run(
    listeners: Listeners,
    config: Config,
    hangups: Hangups,
    shutdown: Shutdown,
) -> Result<Drained, Error> {
    let resumption = Resumption::new()?;
    let max_connections = config.max_connections.max(listeners.clients.len());
    let gate = Arc::new(Gate {
        backend: Backend::new(config.backend, config.proxy_protocol, config.backend_retry),
        served: ArcSwap::from_pointee(Served::new(config.identity, &resumption)?),
        resumption,
        handshake_timeout: config.handshake_timeout,
        half_closed_timeout: config.half_closed_timeout,
        limiter: ConnLimiter::new(config.limits),
        drain: Drain::new(shutdown.clone(), config.drain, max_connections),
        metrics: Metrics::default(),
    });
    for listener in &listeners.clients {
        tracing::info!(
            max_connections,
            "forwarding TLS on {} to {}",
            listener.address(),
            gate.backend,
        );
    }
    gate.log_certificate("serving the certificate");
    let watched = reload::follow(
        Arc::clone(&gate),
        config.watch,
        config.reload_interval,
        hangups,
        shutdown.clone(),
    );
    shutdown.spawn(watched);
    // Dropped, and so ended, only when the last connection has ended.
    let mut others = JoinSet::new();
    let all = Arc::clone(&gate);
    others.spawn(async move { heap_trim::run(&all.metrics).await });
    others.spawn(gate.resumption.clone().rotate());
    if let Some(listener) = listeners.admin {
        let report = Arc::new(Admin::new(Arc::clone(&gate)));
        others.spawn(shared::admin::run(listener, report, shutdown.clone()));
    }
    let workers = Workers::start("gate", config.threads, MAX_IMBALANCE, &shutdown);
    let workers = workers.map_err(|source| Error::System { what: "start a thread", source })?;
    let workers = Arc::new(workers);
    others.spawn(service::watchdog_of(workers.pulses()));
    let mut accepting = JoinSet::new();
    for listener in listeners.clients {
        let workers = Arc::clone(&workers);
        accepting.spawn(accept(Arc::clone(&gate), listener, workers, shutdown.clone()));
    }
    service::ready();
    shutdown.stopping().await;
    service::stopping();
    // Each closes its listening socket.
    while accepting.join_next().await.is_some() {}
    Ok(gate.drain.finished().await)
}

async fn accept(
    gate: Arc<Gate>,
    listener: Listener,
    workers: Arc<Workers<Accepted>>,
    shutdown: Shutdown,
) {
    while let Some(permit) = gate.drain.permit().await {
        let (client, peer) = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        gate.metrics.accepted.inc();
        match gate.limiter.admit(peer.ip()) {
            Ok((guard, handshake)) => {
                let permit = ConnPermit::new(&gate, guard, permit);
                workers.serve(Accepted { client, peer, permit, handshake });
            }
            Err(refusal) => {
                gate.metrics.refused(refusal);
                tracing::debug!(%peer, "closed before TLS: too many {}", refusal.what());
            }
        }
    }
}
