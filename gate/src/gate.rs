//! The state that all connections of one gate share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use crate::backend::Backend;
use crate::error::Error;
use crate::limits::{ConnLimiter, Drain};
use crate::metrics::Metrics;
use crate::pem::{Identity, date};
use crate::tls::{Resumption, server_config};

/// The state that all connections of one gate share.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The certificate for new connections. Each connection takes its own reference before the
    /// handshake, so a renewal does not affect open connections.
    pub(crate) served: ArcSwap<Served>,
    pub(crate) resumption: Resumption,
    pub(crate) backend: Backend,
    pub(crate) handshake_timeout: Duration,
    pub(crate) half_closed_timeout: Duration,
    pub(crate) limiter: Arc<ConnLimiter>,
    pub(crate) drain: Drain,
    pub(crate) metrics: Metrics,
}

impl Gate {
    /// Serves new connections with `identity`. Open connections keep the certificate that they
    /// began with.
    pub(crate) fn serve(&self, identity: Identity) -> Result<(), Error> {
        self.served.store(Arc::new(Served::new(identity, &self.resumption)?));
        self.log_certificate("serving the certificate as it is now");
        Ok(())
    }

    /// Logs one line about the certificate, and one for each of its warnings.
    pub(crate) fn log_certificate(&self, message: &str) {
        let served = self.served.load();
        let identity = &served.identity;
        tracing::info!(
            names = identity.names.join(" "),
            expires = date(identity.expires),
            "{message}"
        );
        for warning in identity.warnings(SystemTime::now()) {
            tracing::warn!("{warning}");
        }
    }
}

/// A certificate in use, with the TLS configuration made from it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) identity: Identity,
}

impl Served {
    pub(crate) fn new(identity: Identity, resumption: &Resumption) -> Result<Self, Error> {
        Ok(Self { config: server_config(identity.certified(), resumption)?, identity })
    }
}
