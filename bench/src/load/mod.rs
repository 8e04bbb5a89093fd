//! The load on servers of WebSockets: many listeners and few senders, at next to no cost of its own.

pub(crate) mod answers;
pub(crate) mod broadcast;
mod connection;
pub(crate) mod frame;
mod http;
mod listener;
pub(crate) mod listeners;
pub(crate) mod message;
mod poll;
pub(crate) mod publisher;
pub(crate) mod senders;
pub(crate) mod target;
pub(crate) mod url;
