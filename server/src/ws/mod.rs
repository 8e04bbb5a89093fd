//! One WebSocket connection, from the upgrade to its end.

pub(crate) mod close;
pub(crate) mod handler;
pub(crate) mod session;
pub(crate) mod shutdown;
pub(crate) mod socket;
