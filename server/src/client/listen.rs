//! `server listen`: registers and prints messages.

use std::fmt::Display;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use serde_json::Value;
use shared::deadline::within;
use shared::shutdown::StopSignals;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::registration::{ServerFrame, TagSubscription};
use super::server::{self, Server};
use super::{print_line, report};
use crate::error::Error;
use crate::id::{Id, Tag};

/// The time-out for the handshake and for each write of a frame.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The time after which a silent server counts as gone. Longer than the interval of its pings, 25 s
/// by default.
const MAX_SILENCE: Duration = Duration::from_secs(120);
const MIN_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(30);
/// A connection that lasts this long ends the series of failures. The limit in client.js is the
/// same.
const STABLE: Duration = Duration::from_secs(25);
/// The longest wait that a server may ask for. A longer one is shortened to this.
const MAX_ADVISED_WAIT: Duration = Duration::from_secs(600);

/// Prints each message once, as a line of JSON, until `count` messages or a stop signal came. If
/// the server was away, reconnects and continues at the same position.
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
    let mut backoff = MIN_WAIT;
    loop {
        let begun = Instant::now();
        let ended = tokio::select! {
            ended = listener.listen_once() => ended,
            _ = signals.next() => return Ok(()),
        };
        let (why, advised) = match ended {
            Ok(()) => return Ok(()),
            Err(Ended::Later { why, wait }) => (why, wait),
            // If the very first attempt fails, a wrong address is more likely than a server that is
            // away.
            Err(Ended::With(Error::Unavailable(why)))
                if listener.registration.position.is_some() =>
            {
                (why, None)
            }
            Err(Ended::With(error)) => return Err(error),
        };
        if begun.elapsed() >= STABLE {
            backoff = MIN_WAIT;
        }
        let wait = advised.map_or(backoff, |wait| wait.clamp(MIN_WAIT, MAX_ADVISED_WAIT));
        report(&format!("{why}; trying again in {:.1} s", wait.as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = signals.next() => return Ok(()),
        }
        backoff = MAX_WAIT.min(backoff * 2);
    }
}

struct Subscription {
    server: Server,
    registration: TagSubscription,
    /// How many more messages to print before the command ends; `None` for no end.
    left: Option<u64>,
}

/// How a connection ended.
enum Ended {
    /// The server answers, but accepts no listener now. `wait` is the time that the server asks to
    /// wait, if its answer names one.
    Later { why: String, wait: Option<Duration> },
    /// An error that ends the command, unless it is [`Error::Unavailable`].
    With(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::With(error)
    }
}

impl Subscription {
    /// Listens on one connection. Returns `Ok` when `count` messages were printed.
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
        let mut stopping = None;
        loop {
            let message = within("a frame or a ping", MAX_SILENCE, socket.next())
                .await
                .map_err(|expired| lost(&expired))?;
            match message {
                Some(Ok(Message::Text(text))) => match self.registration.receive(&text) {
                    ServerFrame::Message => {
                        print_line(&text)?;
                        self.left = self.left.map(|left| left.saturating_sub(1));
                        if self.left == Some(0) {
                            let _ = within("closing", HANDSHAKE, socket.close(None)).await;
                            return Ok(());
                        }
                    }
                    ServerFrame::Registered { lost } => {
                        let tag = &self.registration.tag;
                        report(&format!("listening to {tag} at {authority}"));
                        if lost {
                            self.report_loss();
                        }
                    }
                    ServerFrame::Gap => self.report_loss(),
                    ServerFrame::Bye(wait) => stopping = Some(wait),
                    ServerFrame::Refused(refusal) => return Err(self.refused(&refusal)),
                    ServerFrame::Ignored => {}
                },
                Some(Ok(Message::Close(frame))) => return Err(self.closed(frame, stopping)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(&error).into()),
                None => return Err(lost(&"it ended without a close frame").into()),
            }
        }
    }

    fn report_loss(&self) {
        let tag = &self.registration.tag;
        report(&format!(
            "some messages on {tag} may be missing: the server no longer has all that were sent \
             while the connection was down"
        ));
    }

    fn refused(&self, reply: &Value) -> Ended {
        let authority = &self.server.authority;
        let (code, words) = server::refusal(reply).unwrap_or_default();
        match code {
            "denied" => Error::Denied(words).into(),
            "unavailable" | "rate_limited" => Ended::Later {
                why: format!("{authority} does not accept the registration now: {words}"),
                wait: reply["retry_in_ms"].as_u64().map(Duration::from_millis),
            },
            _ => Error::Data(words).into(),
        }
    }

    fn closed(&self, frame: Option<CloseFrame>, stopping: Option<Duration>) -> Ended {
        let authority = &self.server.authority;
        if stopping.is_some() {
            return Ended::Later {
                why: format!("{authority} is stopping or restarting"),
                wait: stopping,
            };
        }
        let Some(CloseFrame { code, reason }) = frame else {
            return Error::Unavailable(format!("{authority} closed the connection")).into();
        };
        let code = u16::from(code);
        let words = match reason.as_str() {
            "" => format!("{authority} closed the connection ({code})"),
            reason => format!("{authority} closed the connection: {reason} ({code})"),
        };
        let fault = if may_reconnect(code) { Error::Unavailable } else { Error::Denied };
        fault(words).into()
    }
}

async fn connect(server: &Server) -> Result<WebSocketStream<TcpStream>, Ended> {
    let stream = server.connect().await?;
    let url = format!("ws://{}{}/ws", server.authority, server.prefix);
    let shaking = client_async(url, stream);
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
    let (refusal, wait) = (server::refusal(&reply), server::retry_after(headers));
    // The answer comes from Tocsin, or from a proxy with a `Retry-After` header.
    if later && (refusal.is_some() || wait.is_some()) {
        let words = refusal.map_or(String::new(), |(_, words)| format!(": {words}"));
        let why = format!("{} answers {status}{words}", server.authority);
        return Err(Ended::Later { why, wait });
    }
    let words = server.strange("/ws", status, headers);
    let fault = if status.is_server_error() { Error::Unavailable } else { Error::Data };
    Err(fault(words).into())
}

/// Whether a client may reconnect after this close code; docs/protocol.md lists the codes.
fn may_reconnect(code: u16) -> bool {
    !matches!(code, 1002 | 1003 | 1007 | 1009 | 4004 | 4005 | 4500)
}
