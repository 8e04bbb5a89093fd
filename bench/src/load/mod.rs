//! The load on servers of WebSockets: many listeners, few senders, next to no work of its own.

pub(crate) mod answers;
pub(crate) mod broadcast;
pub(crate) mod crowd;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod interrupt;
pub(crate) mod link;
pub(crate) mod member;
pub(crate) mod message;
pub(crate) mod poll;
pub(crate) mod publisher;
pub(crate) mod senders;
pub(crate) mod session;
pub(crate) mod target;
pub(crate) mod url;
pub(crate) mod wire;
