//! The trait between a WebSocket connection and the session behind it.

use std::task::{Context, Poll};

use crate::conn::frame::Rules;
use crate::conn::outbox::Closing;

/// Handles the messages of one connection and writes to its outbox.
///
/// `ws::socket` decodes frames, answers pings and closes; the handler does the rest.
pub trait Handler {
    /// Which messages it takes.
    const RULES: Rules;

    /// Takes a text message. Called only if [`Handler::is_ready`].
    fn on_text(&mut self, text: &str);

    /// Takes a binary message, if [`Handler::RULES`] allow that.
    fn on_binary(&mut self, _bytes: &[u8]) {}

    /// Whether it can take another message.
    fn is_ready(&self) -> bool;

    /// Whether replies are owed. The connection then stays open, even if the peer has ended its side.
    fn owes_answers(&self) -> bool;

    /// Writes the replies that are known. Ready if there was at least one. Pending means that the waker
    /// is registered for the next one, or that bytes wait in the outbox. Cancel safe.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// The outbox is empty, as
    /// [`await_drained`](crate::conn::outbox::Outbox::await_drained) asked to be notified.
    fn drained(&self) {}

    /// Whether the connection may be idle for ever.
    fn may_be_idle(&self) -> bool {
        true
    }

    /// Whether a valid action came since the last call, which restarts the idle timeout.
    fn take_acted(&mut self) -> bool {
        true
    }

    /// The connection has ended, with this close frame if there was one.
    fn closed(&self, _closing: Option<Closing>) {}

    /// The server stops: the last chance to write before the connection is closed.
    fn stopping(&self) {}
}
