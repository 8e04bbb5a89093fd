//! Runs a gate: starts the threads and tasks, accepts connections, and stops.

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

/// Forwards connections from `listeners` until `shutdown` begins. Then closes the open connections
/// one by one over the time of `config.drain`, and returns whether all of them ended in time.
///
/// The PEM file is checked every `config.reload_interval` and at each SIGHUP in `hangups`.
///
/// The calling thread accepts and serves connections. `config.threads - 1` further threads serve.
///
/// At most `config.max_connections` are served at a time. Further connections wait in the kernel's
/// queue. Each listener reserves a permit for its next connection, so there are at least as many
/// permits as listeners. Dropping the future closes the listeners, but `shutdown` still waits for
/// the connections.
///
/// # Errors
/// [`Error::Tls`] if the TLS library refuses the key, [`Error::System`] if the system refuses
/// another thread.
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
    // These tasks are cancelled when the set is dropped, after the last connection has ended.
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
    // Each task closes its listening socket when it ends.
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
