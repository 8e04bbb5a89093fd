//! The connection of one client: its frames, its outbox and its handle.

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod outbox;
