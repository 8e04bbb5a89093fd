//! TLS without sockets of its own: handshake, records, resumption.

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
