//! The load on servers of WebSockets: many listeners and few senders, at next to no cost of its own.

pub(crate) mod broadcast;
mod connection;
pub(crate) mod listeners;
pub(crate) mod senders;
pub(crate) mod target;
pub(crate) mod wire;
