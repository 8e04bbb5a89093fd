//! Tests a connection from the socket to the handler and back, with pieces of any size.

use std::collections::VecDeque;
use std::io::Cursor;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::*;
use crate::conn::frame::samples::{client_frame, conversation, cut, sizes};
use crate::conn::frame::{Rules, data_frame, model};
use crate::conn::outbox::pipe::Pipe;

/// A handler that echoes messages, and accepts at most two before it has replied.
struct Slow {
    connection: Arc<Connection>,
    heard: Arc<Mutex<Vec<Message>>>,
    owed: VecDeque<Bytes>,
    is_awake: bool,
}

impl Slow {
    fn hear(&mut self, message: Message, data: Data, payload: &[u8]) {
        assert!(self.is_ready(), "called although it is not ready");
        self.heard.lock().push(message);
        self.owed.push_back(data_frame(data, true, payload));
    }
}

impl Handler for Slow {
    const RULES: Rules = Rules { binary: true, largest: 300 };

    fn on_text(&mut self, text: &str) {
        self.hear(Message::text(text), Data::Text, text.as_bytes());
    }

    fn on_binary(&mut self, bytes: &[u8]) {
        self.hear(Message::binary(bytes.to_vec()), Data::Binary, bytes);
    }

    fn is_ready(&self) -> bool {
        self.owed.len() < 2
    }

    fn owes_answers(&self) -> bool {
        !self.owed.is_empty()
    }

    fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.is_awake = !self.is_awake;
        if self.is_awake {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let answer = self.owed.pop_front().expect("asked for nothing");
        self.connection.outbox.push(&answer);
        Poll::Ready(())
    }
}

struct Talk {
    heard: Vec<Message>,
    answers: Vec<Message>,
    pongs: Vec<Vec<u8>>,
    /// The payload of the close frame.
    close: Option<Vec<u8>>,
}

/// Serves a connection whose peer sends `pieces`. The first piece comes with the handshake.
fn talk(mut pieces: VecDeque<Vec<u8>>, appetite: usize) -> Talk {
    let read_ahead = pieces.pop_front().unwrap_or_default();
    let pipe = Pipe::with_peer(pieces, appetite);
    let outbox = Outbox::new(Arc::clone(&pipe), Arc::default());
    let connection = Arc::new(Connection::new(1, 0, outbox));
    let heard = Arc::<Mutex<Vec<Message>>>::default();
    let handler = Slow {
        connection: Arc::clone(&connection),
        heard: Arc::clone(&heard),
        owed: VecDeque::new(),
        is_awake: false,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let socket = Socket::new(connection, handler, read_ahead.into(), Duration::from_secs(60));
        socket.run(Arc::default()).await;
    });
    let mut talk = Talk {
        heard: std::mem::take(&mut heard.lock()),
        answers: vec![],
        pongs: vec![],
        close: None,
    };
    let taken = pipe.taken();
    let mut rest = &taken[..];
    while !rest.is_empty() {
        assert_eq!(talk.close, None, "something after the close frame");
        let mut cursor = Cursor::new(rest);
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().expect("whole frames");
        let (payload, after) = rest[cursor.position() as usize..].split_at(length as usize);
        rest = after;
        match header.opcode {
            OpCode::Data(Data::Text) => {
                talk.answers.push(Message::text(std::str::from_utf8(payload).unwrap()));
            }
            OpCode::Data(_) => talk.answers.push(Message::binary(payload.to_vec())),
            OpCode::Control(Control::Pong) => talk.pongs.push(payload.into()),
            OpCode::Control(_) => talk.close = Some(payload.into()),
        }
    }
    talk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn pieces_make_no_difference(
        bytes in conversation(),
        sizes in sizes(),
        appetite in 1usize..20,
    ) {
        let expected = model::decode(Slow::RULES, std::iter::once(&bytes[..]));
        let talk = talk(cut(&bytes, &sizes).map(<[u8]>::to_vec).collect(), appetite);
        let pings = expected.messages.iter().filter(|message| message.is_ping());
        prop_assert_eq!(talk.pongs, pings.map(|ping| ping.clone().into_data()).collect::<Vec<_>>());
        let heard = expected.messages.iter().filter(|m| m.is_text() || m.is_binary());
        prop_assert_eq!(&talk.heard, &heard.cloned().collect::<Vec<_>>());
        // A close frame ends the connection, even if the handler owes replies.
        prop_assert!(talk.heard.starts_with(&talk.answers));
        prop_assert!(expected.end.is_some() || talk.answers.len() == talk.heard.len());
        let code = talk.close.map(|close| {
            close.split_first_chunk().map_or(1005, |(code, _)| u16::from_be_bytes(*code))
        });
        prop_assert_eq!(code, expected.end);
    }
}

#[test]
fn more_frames_at_once_than_a_turn_has() {
    let pings = client_frame(0x89, b"p").repeat(3 * FRAMES_PER_TURN + 1);
    let read_ahead = talk([pings.clone()].into(), 1_000);
    assert_eq!(read_ahead.pongs.len(), 3 * FRAMES_PER_TURN + 1);
    let read_later = talk([vec![], pings].into(), 1_000);
    assert_eq!(read_later.pongs, read_ahead.pongs);
}
