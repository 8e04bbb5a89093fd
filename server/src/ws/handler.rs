//! What stands between a WebSocket connection and whatever its peer talks to.

use std::task::{Context, Poll};

use crate::conn::frame::Rules;
use crate::conn::outbox::Closing;

/// One side of a conversation: it takes messages, and writes to the connection's outbox.
///
/// [`socket`](crate::ws::socket) decodes frames, answers pings, closes, and asks this for the rest.
pub trait Handler {
    /// What it takes.
    const RULES: Rules;

    /// Takes a text message. Operation for only after [`Handler::is_ready`].
    fn on_text(&mut self, text: &str);

    /// Takes a binary message, where [`Handler::RULES`] allow one.
    fn on_binary(&mut self, _bytes: &[u8]) {}

    /// Whether another message may be taken.
    fn is_ready(&self) -> bool;

    /// Whether answers are owed. The connection then lasts, even if the peer sends no more.
    fn owes_answers(&self) -> bool;

    /// Gives the answers that can be given. Ready when there was at least one; pending means that
    /// the waker is registered with what the next one waits for, or that bytes wait in the outbox.
    /// Cancel safe.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Everything that was written for the connection is taken, as
    /// [`await_drained`](crate::conn::outbox::Outbox::await_drained) asked to be told.
    fn drained(&self) {}

    /// Whether the connection may be silent for as long as it likes.
    fn may_be_idle(&self) -> bool {
        true
    }

    /// Whether something came since this was asked last that keeps the connection from being idle.
    fn take_acted(&mut self) -> bool {
        true
    }

    /// The connection has ended, with this close frame if with any.
    fn closed(&self, _closing: Option<Closing>) {}

    /// The server stops: the last moment to write something, before the connection is closed.
    fn stopping(&self) {}
}
