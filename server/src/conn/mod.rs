//! The bytes of one client: frames, what waits for its socket, and its handle.

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod outbox;
