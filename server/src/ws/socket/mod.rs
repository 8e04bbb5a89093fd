//! A WebSocket connection, from the upgrade to its end.
//!
//! One task per connection reads the socket, decodes frames and passes messages to the handler. It
//! reads into a buffer of the thread, so an idle connection has no buffer. Shards write to the
//! socket directly, through the outbox. If the socket was full, this task flushes the outbox when
//! the socket is writable again.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use shared::linger::LingerSocket as _;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::access::visitor::Visitor;
use crate::conn::connection::Connection;
use crate::conn::frame::{self, Decoder, Event};
use crate::conn::outbox::{Demand, GOING_AWAY, Outbox, Wire};
use crate::limits;
use crate::publish::Service;
use crate::ws::close::flush_and_close;
use crate::ws::handler::Handler;
use crate::ws::session::Session;
use crate::ws::shutdown::ShutdownNotice;

/// Close code of an idle connection without a registration, or with a message that was not
/// completed in time.
pub(crate) const IDLE: u16 = 4002;

/// The size of the read buffer in bytes. Each thread has one buffer.
const READ_BUFFER: usize = 64 * 1024;

/// How many frames of a connection are handled before other connections get a turn. A frame may
/// cost one or two system calls.
const FRAMES_PER_TURN: usize = 64;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into());
}

/// The data that all WebSockets of a server share.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub service: Arc<Service>,
    /// How long a connection may be idle: without a registration and without sending a valid
    /// action.
    pub idle_timeout: Duration,
    /// The number of the next connection.
    pub next_number: AtomicU64,
    pub notice: Arc<ShutdownNotice>,
}

impl Sockets {
    /// Serves an upgraded connection to its end. `read_ahead` are the bytes that came after the
    /// upgrade request. `shard` is the index of the shard on the current thread.
    pub(crate) fn serve<S: Into<Wire>>(
        &self,
        stream: S,
        read_ahead: Bytes,
        visitor: Visitor,
        shard: usize,
    ) -> impl Future<Output = ()> + use<S> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let outbox = Outbox::new(stream, Arc::clone(&self.service.backlog));
        let connection = Arc::new(Connection::new(number, shard, outbox));
        let session = Session::new(Arc::clone(&self.service), Arc::clone(&connection), visitor);
        Socket::new(connection, session, read_ahead, self.idle_timeout)
            .run(Arc::clone(&self.notice))
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// A close frame is queued or written.
    Closing,
    /// The peer has ended its side and all its requests are answered, or the socket is broken.
    Gone,
}

/// A connection and its handler.
#[derive(Debug)]
pub struct Socket<H> {
    handler: H,
    connection: Arc<Connection>,
    decoder: Decoder,
    /// Whether the peer has ended its side.
    input_ended: bool,
    /// Whether decoding stopped before the end of the input, so that other connections get a turn.
    more: bool,
    /// The decoder's memory in bytes, as it was last noted in the outbox.
    incoming: usize,
    /// The timer of the idle timeout; `None` while the connection may be idle.
    idle: Option<Pin<Box<Sleep>>>,
    idle_timeout: Duration,
}

impl<H: Handler> Socket<H> {
    /// Creates the socket and decodes `read_ahead`, the bytes after the upgrade request.
    /// `idle_timeout` applies while the handler does not permit idling.
    pub fn new(
        connection: Arc<Connection>,
        handler: H,
        read_ahead: Bytes,
        idle_timeout: Duration,
    ) -> Self {
        tracing::debug!(connection = connection.number, "open");
        let mut socket = Self {
            handler,
            connection,
            decoder: Decoder::default(),
            input_ended: false,
            more: false,
            incoming: 0,
            idle: None,
            idle_timeout,
        };
        socket.decode(&mut read_ahead.to_vec());
        socket
    }

    /// Serves the connection until it ends or the server stops. Replies that the handler owes are
    /// written first.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments a second time, as its variables, all its life"
    )]
    pub fn run(mut self, notice: Arc<ShutdownNotice>) -> impl Future<Output = ()> {
        async move {
            let ending = self.talk(&notice).await;
            let connection = Arc::clone(&self.connection);
            self.handler.closed(connection.outbox.closing());
            // This ends the registrations now, because the flush may take long.
            drop(self);
            // The future is in a box, because its size would otherwise be part of every
            // connection's future.
            Box::pin(flush_and_close(&connection.outbox)).await;
            tracing::debug!(
                connection = connection.number,
                code = connection.outbox.close_code(),
                ?ending,
                "closed"
            );
        }
    }

    /// Runs until the connection must be closed or the peer is gone.
    ///
    /// This polls by hand, because each branch of a `select!` would keep a future as long as the
    /// connection exists.
    async fn talk(&mut self, end: &ShutdownNotice) -> Ending {
        let mut stopping = pin!(end.closing());
        let mut is_stopping = false;
        poll_fn(|context| {
            loop {
                is_stopping = is_stopping || stopping.as_mut().poll(context).is_ready();
                let may_end = self.poll_idle(context) || self.leaves(is_stopping);
                match self.connection.outbox.demand() {
                    Demand::Close => return Poll::Ready(Ending::Closing),
                    // The socket is broken, so no close frame can be written.
                    Demand::Broken if may_end => return Poll::Ready(Ending::Gone),
                    // Even if the socket is broken, requests that the peer has sent are still read
                    // and performed.
                    Demand::Broken | Demand::Flush | Demand::Nothing => {}
                }
                if self.input_ended && !self.more && !self.handler.owes_answers() {
                    return Poll::Ready(Ending::Gone);
                }
                if self.poll_once(context, end).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Does one step. `Pending` means that the waker is registered for all events that matter, or
    /// was woken.
    fn poll_once(&mut self, context: &mut Context<'_>, end: &ShutdownNotice) -> Poll<()> {
        let outbox = &self.connection.outbox;
        // The waker is registered before the state is read, so a later change wakes this task
        // again.
        outbox.wake_on_change(context.waker());
        while outbox.has_waiting() && outbox.wire.poll_write_ready(context).is_ready() {
            // If the socket does not take all bytes, `flush` clears its readiness, and the loop
            // ends.
            outbox.flush();
        }
        if outbox.take_drained() {
            self.handler.drained();
        }
        if outbox.demand() == Demand::Close {
            return Poll::Ready(());
        }
        if self.handler.owes_answers() && self.handler.poll_answers(context).is_ready() {
            // The handler may accept the next message now.
            self.decode(&mut []);
            return Poll::Ready(());
        }
        if self.more {
            self.decode(&mut []);
        } else if self.handler.is_ready() && !self.input_ended && !end.reading_has_stopped() {
            ready!(outbox.wire.poll_read_ready(context)).ok();
            self.read();
        } else {
            return Poll::Pending;
        }
        // Other connections get a turn first. Otherwise a peer that sends without a pause would
        // occupy the thread.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Checks the idle timeout. If it has expired, closes the connection and returns true.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> bool {
        self.update_idle();
        let over = self.idle.as_mut().is_some_and(|idle| idle.as_mut().poll(context).is_ready());
        if over {
            let limit = self.idle_timeout;
            let reason = match self.handler.may_be_idle() {
                true => format!("a message was not completed within {limit:?}"),
                false => format!("no registration and no valid action for {limit:?}"),
            };
            self.connection.outbox.close(IDLE, &reason);
        }
        over
    }

    /// If the server stops and no reply is owed, closes the connection and returns true.
    fn leaves(&self, is_stopping: bool) -> bool {
        let leaves = is_stopping && !self.more && !self.handler.owes_answers();
        if leaves {
            self.handler.stopping();
            self.connection.outbox.close(GOING_AWAY, "the server restarts");
        }
        leaves
    }

    /// Reads from the socket once and decodes the bytes.
    fn read(&mut self) {
        BUFFER.with_borrow_mut(|buffer| match self.connection.outbox.wire.try_read(buffer) {
            Ok(0) => self.input_ended = true,
            Ok(length) => self.decode(&mut buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_gone) => self.input_ended = true,
        });
    }

    fn decode(&mut self, input: &mut [u8]) {
        self.more = false;
        if input.is_empty() && !self.decoder.has_rest() {
            return;
        }
        let Self { decoder, handler, connection, more, .. } = self;
        let mut turn = FRAMES_PER_TURN;
        let result = decoder.decode(H::RULES, input, |event| {
            connection.note_heard();
            handle(event, handler, &connection.outbox);
            turn -= 1;
            *more = turn == 0 && handler.is_ready();
            match turn > 0 && handler.is_ready() && connection.outbox.close_code().is_none() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        if let Err(violation) = result {
            tracing::debug!(connection = connection.number, %violation, "closing");
            connection.outbox.close(violation.code(), &violation.to_string());
        }
        self.note_incoming();
    }

    /// Counts the memory of an unfinished message in the backlog, unless it is at most
    /// [`limits::INCOMING`].
    fn note_incoming(&mut self) {
        let held = self.decoder.held();
        let held = if held <= limits::INCOMING { 0 } else { held };
        if held != self.incoming {
            self.incoming = held;
            self.connection.outbox.note_incoming(held);
        }
    }

    fn update_idle(&mut self) {
        // While the handler owes replies, the peer is waiting for the server.
        let is_amid = self.decoder.is_amid() && !self.handler.owes_answers();
        if self.handler.may_be_idle() && !is_amid {
            self.idle = None;
            return;
        }
        let deadline = Instant::now() + self.idle_timeout;
        match &mut self.idle {
            None => self.idle = Some(Box::pin(sleep_until(deadline))),
            Some(idle) if self.handler.take_acted() => idle.as_mut().reset(deadline),
            Some(_) => {}
        }
    }
}

fn handle(event: Event<'_>, handler: &mut impl Handler, outbox: &Outbox) {
    match event {
        Event::Text(text) => handler.on_text(text),
        Event::Binary(bytes) => handler.on_binary(bytes),
        Event::Ping(payload) => {
            outbox.push(&frame::pong_frame(payload));
        }
        Event::Pong => {}
        Event::Close(code) => outbox.close_back(code),
    }
}

#[cfg(test)]
mod tests;
