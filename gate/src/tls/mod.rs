//! TLS: the handshake, the session after it, and resumption. This module depends on neither the PEM
//! file nor the backend.

mod config;
mod handshake;
pub(crate) mod names;
mod provider;
mod resumption;
mod session;

pub(crate) use config::server_config;
pub(crate) use handshake::{Secured, handshake};
pub(crate) use provider::provider;
pub(crate) use resumption::Resumption;
pub(crate) use session::{PeerState, TlsSession};
