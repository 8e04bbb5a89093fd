//! Sends every message back, with the frames, socket and outbox of the server. Test suites for
//! WebSocket servers need such a program; `scripts/autobahn/run` starts it.
//!
//! `cargo run -p server --example echo -- 127.0.0.1:0` prints the address that it listens on.

use std::error::Error;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use server::Connection;
use server::Handler;
use server::Socket;
use server::{Backlog, Outbox};
use server::{Rules, data_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse as _;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

/// The largest message of the Autobahn test suite: 16 MiB.
const LARGEST: usize = 16 * 1024 * 1024;

/// The largest fragment of a reply, in bytes. A large message is sent in fragments, of which at
/// most one waits in the outbox, because the outbox is limited to 256 KiB (`limits::OUTBOX`).
const FRAGMENT: usize = 64 * 1024;

/// The bytes that may wait for all sockets. Each connection may have 1/64 of them, the size of four
/// of the largest messages. While the buffer of a message grows, it takes twice the size of the
/// message.
const BACKLOG: usize = 64 * 4 * LARGEST;

/// The time in which the rest of a message must arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest request for the handshake, in bytes.
const REQUEST: usize = 16 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("Usage: echo ADDR:PORT")?;
    let listener = TcpListener::bind(address).await?;
    writeln!(io::stdout(), "listening echo {}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                let _ = writeln!(io::stderr(), "echo: {error}");
            }
        });
    }
}

async fn serve(mut stream: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let read_ahead = shake_hands(&mut stream).await?;
    let connection =
        Arc::new(Connection::new(0, 0, Outbox::new(stream, Arc::new(Backlog::new(BACKLOG)))));
    let echo = Echo { connection: Arc::clone(&connection), unsent: None };
    let socket = Socket::new(connection, echo, read_ahead, PATIENCE);
    socket.run(Arc::default()).await;
    Ok(())
}

/// Answers the upgrade request and returns the bytes that came after it.
async fn shake_hands(stream: &mut TcpStream) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let mut received = BytesMut::new();
    let (length, request) = loop {
        if let Some(parsed) = Request::try_parse(&received)? {
            break parsed;
        }
        if received.len() > REQUEST || stream.read_buf(&mut received).await? == 0 {
            return Err("no whole request".into());
        }
    };
    let mut answer = Vec::new();
    write_response(&mut answer, &create_response(&request)?)?;
    stream.write_all(&answer).await?;
    received.advance(length);
    Ok(received.freeze())
}

/// Sends each message of the peer back.
struct Echo {
    connection: Arc<Connection>,
    /// The part of the last message that is not sent yet. The next message is read when this is
    /// written.
    unsent: Option<Unsent>,
}

struct Unsent {
    /// The type of the next frame: that of the message first, then [`Data::Continue`].
    data: Data,
    payload: Bytes,
}

impl Echo {
    fn owe(&mut self, data: Data, payload: &[u8]) {
        if payload.len() <= FRAGMENT && !self.connection.outbox.has_waiting() {
            self.connection.outbox.push(&data_frame(data, true, payload));
        } else {
            self.unsent = Some(Unsent { data, payload: Bytes::copy_from_slice(payload) });
        }
    }
}

impl Handler for Echo {
    const RULES: Rules = Rules { binary: true, largest: LARGEST };

    fn on_text(&mut self, text: &str) {
        self.owe(Data::Text, text.as_bytes());
    }

    fn on_binary(&mut self, bytes: &[u8]) {
        self.owe(Data::Binary, bytes);
    }

    fn is_ready(&self) -> bool {
        self.unsent.is_none()
    }

    fn owes_answers(&self) -> bool {
        self.unsent.is_some()
    }

    fn poll_answers(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        let outbox = &self.connection.outbox;
        while let Some(unsent) = &mut self.unsent {
            if outbox.has_waiting() {
                return Poll::Pending;
            }
            let piece = unsent.payload.split_to(FRAGMENT.min(unsent.payload.len()));
            let is_final = unsent.payload.is_empty();
            outbox.push(&data_frame(unsent.data, is_final, &piece));
            unsent.data = Data::Continue;
            if is_final {
                self.unsent = None;
            }
        }
        Poll::Ready(())
    }
}
