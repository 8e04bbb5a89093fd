//! Ends TLS from one concatenated PEM file and forwards bytes to a plain server.
//!
//! [`run`] takes a bound [`Listener`], a resolved [`Config`] and the stop signal. Each connection
//! is one task in `session`: first byte, handshake, backend, then `relay` until both directions
//! have ended.

pub mod backend;
pub mod cli;
pub mod config;
mod drain;
pub mod error;
pub mod pem;
mod relay;
mod session;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use shared::accept::Listener;
use shared::shutdown::{Drained, Shutdown};

use backend::Backend;
use config::Config;
use drain::Drain;
use error::Error;
use tls::{Served, Tickets};

/// What every connection of one gate shares.
#[derive(Debug)]
struct Gate {
    /// One configuration for all connections; a session takes its own clone of it before the
    /// handshake.
    served: Arc<Served>,
    backend: Backend,
    handshake_timeout: Duration,
    drain: Drain,
}

/// Forwards connections from `listener` until `shutdown` stops, then closes those that are left,
/// one after the other over `config.drain`, and says how that ended.
///
/// At most `config.max_connections` are served at a time; more of them wait in the kernel's
/// queue. Dropping the future closes the listener; connections stay `shutdown`'s to wait for.
///
/// # Errors
/// When the TLS library refuses the certificate and key that `config` holds.
pub async fn run(listener: Listener, config: Config, shutdown: Shutdown) -> Result<Drained, Error> {
    let gate = Arc::new(Gate {
        served: Arc::new(Served::new(&config.identity, &Tickets::new()?)?),
        backend: Backend::new(&config),
        handshake_timeout: config.handshake_timeout,
        drain: Drain::new(shutdown.clone(), config.drain, config.max_connections),
    });
    tracing::info!(
        names = config.identity.names().join(" "),
        max_connections = config.max_connections,
        "forwarding TLS on {} to {}",
        listener.address(),
        gate.backend,
    );
    while let Some(place) = gate.drain.place().await {
        let (client, peer) = tokio::select! {
            biased;
            () = shutdown.stopping() => break,
            accepted = listener.accept() => accepted,
        };
        shutdown.spawn(session::serve(Arc::clone(&gate), client, peer, place));
    }
    drop(listener);
    Ok(gate.drain.finished().await)
}
