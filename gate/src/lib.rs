//! Ends TLS from one concatenated PEM file and forwards bytes to a plain server.
//!
//! [`run`] takes open [`Listeners`], a resolved [`Config`] and the stop signal. Each connection
//! is one task in `session`: first byte, handshake, backend, then `relay` until both directions
//! have ended.

mod admin;
pub mod backend;
mod channel;
pub mod check;
pub mod cli;
pub mod config;
mod crowd;
mod drain;
pub mod error;
mod handshake;
pub mod listeners;
mod memory;
mod metrics;
mod newcomer;
pub mod pem;
mod pending;
mod relay;
pub mod reload;
mod scratch;
mod session;
mod tls;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use shared::accept::Listener;
use shared::service;
use shared::shutdown::{Drained, Hangups, Shutdown};
use shared::workers::Workers;
use tokio::task::JoinSet;

use admin::Admin;
use backend::Backend;
use config::Config;
use crowd::Crowd;
pub use crowd::Limits;
use drain::Drain;
use error::Error;
use listeners::Listeners;
use metrics::Metrics;
use newcomer::Newcomer;
use pem::Identity;
use tls::{Resumption, Served};

/// What every connection of one gate shares.
#[derive(Debug)]
struct Gate {
    /// What newcomers are served with. A session takes its own reference before the handshake,
    /// so that another certificate never concerns a connection that has begun.
    served: ArcSwap<Served>,
    resumption: Resumption,
    backend: Backend,
    handshake_timeout: Duration,
    half_closed_timeout: Duration,
    crowd: Arc<Crowd>,
    drain: Drain,
    metrics: Metrics,
}

impl Gate {
    /// Serves newcomers with `identity`; whoever is connected is not concerned.
    fn serve(&self, identity: Identity) -> Result<(), Error> {
        self.served.store(Arc::new(Served::new(identity, &self.resumption)?));
        self.tell_certificate("serving the certificate as it is now");
        Ok(())
    }

    /// One line about the certificate, and one for everything about it that should be seen to.
    fn tell_certificate(&self, what: &str) {
        let served = self.served.load();
        let identity = &served.identity;
        tracing::info!(
            names = identity.names().join(" "),
            expires = pem::date(identity.expires()),
            "{what}"
        );
        for warning in identity.warnings(SystemTime::now()) {
            tracing::warn!("{warning}");
        }
    }
}

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
        backend: Backend::new(&config),
        served: ArcSwap::from_pointee(Served::new(config.identity, &resumption)?),
        resumption,
        handshake_timeout: config.handshake_timeout,
        half_closed_timeout: config.half_closed_timeout,
        crowd: Crowd::new(config.limits),
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
    gate.tell_certificate("serving the certificate");
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
    others.spawn(async move { memory::tidy(&all).await });
    others.spawn(gate.resumption.clone().rotate());
    if let Some(listener) = listeners.admin {
        let report = Arc::new(Admin::new(Arc::clone(&gate)));
        others.spawn(shared::admin::run(listener, report, shutdown.clone()));
    }
    let workers = Workers::start("gate", config.threads, newcomer::AHEAD, &shutdown);
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
    workers: Arc<Workers<Newcomer>>,
    shutdown: Shutdown,
) {
    while let Some(place) = gate.drain.place().await {
        let (client, peer) = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        gate.metrics.accepted.inc();
        match gate.crowd.admit(peer.ip()) {
            Ok((guest, handshake)) => {
                let seat = session::Seat::new(&gate, guest, place);
                workers.serve(Newcomer { client, peer, seat, handshake });
            }
            Err(refusal) => {
                gate.metrics.refused(refusal);
                tracing::debug!(%peer, "closed before TLS: too many {}", refusal.what());
            }
        }
    }
}
