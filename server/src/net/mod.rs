//! Incoming connections: listening, the PROXY protocol, admission, and passing them to a thread.

pub(crate) mod addresses;
pub(crate) mod admission;
pub(crate) mod available_memory;
pub(crate) mod dispatch;
pub(crate) mod listeners;
pub(crate) mod proxy_protocol;
