//! The server side of TLS: 1.2 and 1.3, with resumption.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;
use rustls::sign::SingleCertAndKey;

use crate::error::Error;
use crate::pem::Identity;

/// The one provider of cryptography, always passed explicitly: a process-wide default would
/// depend on what else is linked.
pub(crate) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// The keys that session tickets are sealed with; they rotate by themselves.
///
/// Made once and kept for the life of the process: a configuration with new ones could not open
/// any ticket given out before, and resumption would silently never work.
#[derive(Debug, Clone)]
pub(crate) struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    pub(crate) fn new() -> Result<Self, Error> {
        aws_lc_rs::Ticketer::new().map(Self).map_err(Error::Tls)
    }
}

/// A certificate in use, with what connections need of it.
#[derive(Debug)]
pub(crate) struct Served {
    /// Shared by all connections: one per certificate, never one per connection.
    pub(crate) config: Arc<ServerConfig>,
    /// A name to send people to who come without TLS.
    pub(crate) host: Option<String>,
}

impl Served {
    pub(crate) fn new(identity: &Identity, tickets: &Tickets) -> Result<Self, Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
        config.ticketer = Arc::clone(&tickets.0);
        Ok(Self { config: Arc::new(config), host: identity.host().map(str::to_owned) })
    }
}
