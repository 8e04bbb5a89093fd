//! Limits on the connections of one address, and of all addresses.

mod conn_limits;
mod drain;

pub(crate) use conn_limits::{ConnGuard, ConnLimiter, ConnLimits, HandshakeGuard, Refusal};
pub(crate) use drain::Drain;
