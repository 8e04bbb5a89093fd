//! A relay between a client and a server, or between a server and NATS. The relay can be cut, stand
//! still and lose messages.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use testkit::{listener, soon};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// A relay that forwards bytes while its state is `Whole`.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    /// The number of connections that were refused while the line was cut.
    refused: Arc<watch::Sender<u32>>,
    unlucky: Unlucky,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Whole,
    /// Connections stay open, but no bytes are forwarded.
    Still,
    Cut,
}

/// The unit that the relay forwards or loses as a whole.
#[derive(Clone, Copy)]
enum Unit {
    /// The bytes of one read.
    Bytes,
    /// A line of the NATS protocol with its payload.
    NatsMessage,
}

/// The content by which the relay recognises the next message that it loses.
type Unlucky = Arc<Mutex<Option<Vec<u8>>>>;

impl Line {
    pub(crate) async fn to(to: SocketAddr) -> Self {
        Self::of(to, Unit::Bytes).await
    }

    /// Returns a line that can lose single NATS messages.
    pub(crate) async fn to_nats(to: SocketAddr) -> Self {
        Self::of(to, Unit::NatsMessage).await
    }

    async fn of(to: SocketAddr, unit: Unit) -> Self {
        let (listener, address) = listener().await;
        let (state, unlucky) = (Arc::new(watch::Sender::new(State::Whole)), Unlucky::default());
        let refused = Arc::new(watch::Sender::new(0));
        let (all, lost) = (Arc::clone(&state), Arc::clone(&unlucky));
        let count = Arc::clone(&refused);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let mut state = all.subscribe();
                if *state.borrow_and_update() == State::Cut {
                    count.send_modify(|count| *count += 1);
                    continue;
                }
                let lost = Arc::clone(&lost);
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else { return };
                    let ((from_near, to_near), (from_far, to_far)) =
                        (near.into_split(), far.into_split());
                    let (there, back) = (state.clone(), state.clone());
                    tokio::select! {
                        () = pass(from_near, to_far, unit, there, Unlucky::default()) => {}
                        () = pass(from_far, to_near, unit, back, lost) => {}
                        _ = state.wait_for(|state| *state == State::Cut) => {}
                    }
                });
            }
        });
        Self { address, state, refused, unlucky }
    }

    /// Closes all connections and refuses new ones.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Waits until `attempts` connections in all were refused.
    pub(crate) async fn until_refused(&self, attempts: u32) {
        let mut refused = self.refused.subscribe();
        let seen = refused.wait_for(|count| *count >= attempts);
        soon(seen).await.unwrap();
    }

    /// Keeps all connections open but forwards nothing.
    pub(crate) fn stand_still(&self) {
        self.state.send_replace(State::Still);
    }

    pub(crate) fn heal(&self) {
        self.state.send_replace(State::Whole);
    }

    /// Loses the next NATS message that contains `content`.
    pub(crate) fn lose(&self, content: &str) {
        *self.unlucky.lock() = Some(content.into());
    }

    /// Returns whether the message that [`Line::lose`] chose is lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.unlucky.lock().is_none()
    }
}

async fn pass(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    unit: Unit,
    mut state: watch::Receiver<State>,
    unlucky: Unlucky,
) {
    let mut from = BufReader::new(from);
    loop {
        let next = match unit {
            Unit::Bytes => some_bytes(&mut from).await,
            Unit::NatsMessage => nats_message(&mut from).await,
        };
        let Some(next) = next.ok().filter(|next| !next.is_empty()) else { return };
        let is_unlucky = |content: &mut Vec<u8>| {
            next.windows(content.len()).any(|window| window == content.as_slice())
        };
        if unlucky.lock().take_if(is_unlucky).is_some() {
            continue;
        }
        let passes = |state: &State| *state != State::Still;
        if state.wait_for(passes).await.is_err() || to.write_all(&next).await.is_err() {
            return;
        }
    }
}

async fn some_bytes(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let bytes = from.fill_buf().await?.to_vec();
    from.consume(bytes.len());
    Ok(bytes)
}

async fn nats_message(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    from.read_until(b'\n', &mut message).await?;
    let line = String::from_utf8_lossy(&message).into_owned();
    let mut words = line.split_ascii_whitespace();
    if let Some("MSG" | "HMSG" | "PUB" | "HPUB") = words.next() {
        let length: usize = words.next_back().unwrap().parse().unwrap();
        let begin = message.len();
        message.resize(begin + length + 2, 0);
        from.read_exact(&mut message[begin..]).await?;
    }
    Ok(message)
}
