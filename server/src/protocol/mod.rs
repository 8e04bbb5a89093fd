//! Protocol version 1: parses and checks the actions of clients, and formats replies and events.
//!
//! This module does no I/O and needs no runtime. `docs/protocol.md` describes the protocol.

mod action;
mod fields;
mod key;
mod parse;
mod reply;

pub use action::{Action, Mark};
pub(crate) use action::{
    Cursor, Message, Mid, PersonRequest, Publish, Read, Recipient, Reference, Resume, Set,
};
pub(crate) use key::{Key, Protectable};
pub(crate) use parse::ParsedRequest;
pub use parse::parse;
pub(crate) use reply::{ErrorCode, Outcome, Refusal, Reply, bye, delivery, gap, live, read};
