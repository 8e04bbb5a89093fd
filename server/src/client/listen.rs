//! Registers and prints what comes.

use std::fmt::Display;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use serde_json::Value;
use shared::deadline::within;
use shared::shutdown::StopSignals;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::registration::{News, TagSubscription};
use super::server::{self, Server};
use super::{print_line, say};
use crate::error::Error;
use crate::id::{Id, Tag};

/// For the handshake, and for handing over a frame.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A living server pings a registered connection every 25 s by default.
const SILENCE: Duration = Duration::from_secs(120);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection that holds so long is no part of a series that fails; client.js has the same bound.
const LASTING: Duration = Duration::from_secs(25);
/// No server asks for a longer wait in earnest.
const LONGEST_TOLD: Duration = Duration::from_secs(600);

/// Prints messages, each once and as one line of JSON, until `count` of them came or a stop signal;
/// comes back after the server was away, and goes on where it was.
pub(super) async fn listen(
    tag: &str,
    id: Option<&Id>,
    key: Option<&str>,
    count: Option<u64>,
    to: &str,
) -> Result<(), Error> {
    let server = Server::parse(to)?;
    let tag = Tag::parse(tag).map_err(|error| Error::Data(format!("bad_tag: {error}")))?;
    let mut listener =
        Subscription { server, registration: TagSubscription::new(tag, id, key), left: count };
    let mut signals =
        StopSignals::install().map_err(|source| Error::Os { what: "signals", source })?;
    let mut backoff = FIRST_WAIT;
    loop {
        let begun = Instant::now();
        let ended = tokio::select! {
            ended = listener.listen_once() => ended,
            _ = signals.next() => return Ok(()),
        };
        let (why, told) = match ended {
            Ok(()) => return Ok(()),
            Err(Ended::ForNow { why, wait }) => (why, wait),
            // The first time, the address is more likely wrong than the server away.
            Err(Ended::With(Error::Unavailable(why))) if listener.registration.has_stood() => {
                (why, None)
            }
            Err(Ended::With(error)) => return Err(error),
        };
        if begun.elapsed() >= LASTING {
            backoff = FIRST_WAIT;
        }
        let wait = told.map_or(backoff, |told| told.clamp(FIRST_WAIT, LONGEST_TOLD));
        say(&format!("{why}; trying again in {:.1} s", wait.as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = signals.next() => return Ok(()),
        }
        backoff = LONGEST_WAIT.min(backoff * 2);
    }
}

struct Subscription {
    server: Server,
    registration: TagSubscription,
    /// Messages, before it ends.
    left: Option<u64>,
}

/// How a connection ended.
enum Ended {
    /// The server is there and takes it later, when it says so after this `wait`.
    ForNow { why: String, wait: Option<Duration> },
    /// For good, unless it is [`Error::Unavailable`].
    With(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::With(error)
    }
}

impl Subscription {
    /// `Ok` when enough messages came.
    async fn listen_once(&mut self) -> Result<(), Ended> {
        let mut socket = connect(&self.server).await?;
        let authority = self.server.authority.clone();
        let lost = |error: &dyn Display| {
            Error::Unavailable(format!("the connection to {authority} is lost: {error}"))
        };
        let set = Message::text(self.registration.set());
        within("handing over the registration", HANDSHAKE, socket.send(set))
            .await
            .map_err(|expired| lost(&expired))?
            .map_err(|error| lost(&error))?;
        let mut bye = None;
        loop {
            let message = within("a sign of life", SILENCE, socket.next())
                .await
                .map_err(|expired| lost(&expired))?;
            match message {
                Some(Ok(Message::Text(text))) => match self.registration.hear(&text) {
                    News::Message => {
                        print_line(&text)?;
                        self.left = self.left.map(|left| left.saturating_sub(1));
                        if self.left == Some(0) {
                            let _ = within("closing", HANDSHAKE, socket.close(None)).await;
                            return Ok(());
                        }
                    }
                    News::Registered { lost } => {
                        let tag = self.registration.tag();
                        say(&format!("listening to {tag} at {authority}"));
                        if lost {
                            self.tell_of_loss();
                        }
                    }
                    News::Gap => self.tell_of_loss(),
                    News::Bye(wait) => bye = Some(wait),
                    News::Refused(refusal) => return Err(self.refused(&refusal)),
                    News::Nothing => {}
                },
                Some(Ok(Message::Close(frame))) => return Err(self.closed(frame, bye)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(&error).into()),
                None => return Err(lost(&"it ended without a farewell").into()),
            }
        }
    }

    fn tell_of_loss(&self) {
        let tag = self.registration.tag();
        say(&format!(
            "some messages to {tag} may be missing: the server no longer has all that came meanwhile"
        ));
    }

    fn refused(&self, reply: &Value) -> Ended {
        let authority = &self.server.authority;
        let (code, words) = server::refusal(reply).unwrap_or_default();
        match code {
            "denied" => Error::Denied(words).into(),
            "unavailable" | "rate_limited" => Ended::ForNow {
                why: format!("{authority} does not take the registration now: {words}"),
                wait: reply["retry_in_ms"].as_u64().map(Duration::from_millis),
            },
            _ => Error::Data(words).into(),
        }
    }

    fn closed(&self, frame: Option<CloseFrame>, bye: Option<Duration>) -> Ended {
        let authority = &self.server.authority;
        if bye.is_some() {
            return Ended::ForNow { why: format!("{authority} stops or restarts"), wait: bye };
        }
        let Some(CloseFrame { code, reason }) = frame else {
            return Error::Unavailable(format!("{authority} closed the connection")).into();
        };
        let code = u16::from(code);
        let words = match reason.as_str() {
            "" => format!("{authority} closed the connection ({code})"),
            reason => format!("{authority} closed the connection: {reason} ({code})"),
        };
        if comes_back(code) {
            Error::Unavailable(words).into()
        } else {
            Error::Denied(words).into()
        }
    }
}

async fn connect(server: &Server) -> Result<WebSocketStream<TcpStream>, Ended> {
    let stream = server.connect().await?;
    let url = format!("ws://{}{}/ws", server.authority, server.prefix);
    let config = WebSocketConfig::default();
    let shaking = client_async_with_config(url, stream, Some(config));
    let answer = match within("the WebSocket's handshake", HANDSHAKE, shaking).await {
        Err(expired) => return Err(server.unreachable(&expired).into()),
        Ok(Ok((socket, _))) => return Ok(socket),
        Ok(Err(WsError::Http(answer))) => answer,
        Ok(Err(error)) => return Err(server.unanswered(&error).into()),
    };
    let (status, headers) = (answer.status(), answer.headers());
    let reply: Value = answer
        .body()
        .as_deref()
        .and_then(|body| serde_json::from_slice(body).ok())
        .unwrap_or_default();
    let later = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    Err(match server::refusal(&reply) {
        // Its own words, or a proxy's before it that says when.
        Some((_, words)) if later => Ended::ForNow {
            why: format!("{} answers {status}: {words}", server.authority),
            wait: server::come_back(headers),
        },
        None if later && server::come_back(headers).is_some() => Ended::ForNow {
            why: format!("{} answers {status}", server.authority),
            wait: server::come_back(headers),
        },
        _ if status.is_server_error() => {
            Error::Unavailable(server.strange("/ws", status, headers)).into()
        }
        _ => Error::Data(server.strange("/ws", status, headers)).into(),
    })
}

/// Close codes that mean to stay away: see the protocol's list.
fn comes_back(code: u16) -> bool {
    !matches!(code, 1002 | 1003 | 1007 | 1009 | 4004 | 4005 | 4500)
}
