//! The trait between a WebSocket connection and the session behind it.

use std::task::{Context, Poll};

use crate::conn::frame::Rules;
use crate::conn::outbox::Closing;

/// Handles the messages of one connection and writes to its outbox.
///
/// `ws::socket` decodes frames and answers pings and close frames. The handler does everything
/// else.
pub trait Handler {
    /// The messages that the handler accepts.
    const RULES: Rules;

    /// Handles a text message. Called only if [`Handler::is_ready`] is true.
    fn on_text(&mut self, text: &str);

    /// Handles a binary message. Called only if [`Handler::RULES`] allow binary messages.
    fn on_binary(&mut self, _bytes: &[u8]) {}

    /// Whether the handler can accept another message.
    fn is_ready(&self) -> bool;

    /// Whether the handler still owes replies. The connection then stays open, even if the peer has
    /// ended its side.
    fn owes_answers(&self) -> bool;

    /// Writes the replies that are known. Returns `Ready` if there was at least one. `Pending`
    /// means that the waker is registered for the next reply, or that bytes wait in the outbox.
    /// Cancel safe.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Called when the outbox is empty, if
    /// [`await_drained`](crate::conn::outbox::Outbox::await_drained) asked for this call.
    fn drained(&self) {}

    /// Whether the connection may be idle for any length of time.
    fn may_be_idle(&self) -> bool {
        true
    }

    /// Whether the handler has performed a valid action since the last call. A valid action
    /// restarts the idle timeout.
    fn take_acted(&mut self) -> bool {
        true
    }

    /// Called when the connection has ended. `closing` is the close frame, if there was one.
    fn closed(&self, _closing: Option<Closing>) {}

    /// Called when the server stops. The handler may write once more before the connection is
    /// closed.
    fn stopping(&self) {}
}
