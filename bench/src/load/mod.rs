//! The load on WebSocket servers: many listeners and few senders. It costs next to no CPU itself.

pub(crate) mod broadcast;
mod connection;
pub(crate) mod listeners;
pub(crate) mod senders;
pub(crate) mod target;
pub(crate) mod wire;
