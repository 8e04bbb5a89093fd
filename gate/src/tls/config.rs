//! The TLS configuration: TLS 1.2 and 1.3, with session resumption.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::provider::provider;
use super::resumption::Resumption;
use crate::error::Error;

/// Makes the TLS configuration for the certificate `certified`. All connections with this
/// certificate share one configuration.
pub(crate) fn server_config(
    certified: Arc<CertifiedKey>,
    resumption: &Resumption,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.ticketer = Arc::clone(&resumption.tickets);
    config.session_storage = Arc::clone(&resumption.sessions);
    Ok(Arc::new(config))
}
