//! Where the server is, and what is said when something else is there.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use hyper::{HeaderMap, StatusCode, Uri, header};
use serde_json::Value;
use shared::deadline::within;
use tokio::net::TcpStream;

use crate::error::Error;

const CONNECT: Duration = Duration::from_secs(5);

/// Where the server is, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// `name:port`, to connect to and for the `Host` header.
    pub(super) authority: String,
    /// A path prefix without a slash at its end.
    pub(super) prefix: String,
}

impl Server {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let fault = |what: &str| Error::Option { option: "to", reason: format!("{url}: {what}") };
        let uri: Uri = url.parse().map_err(|_| fault("write http://ADDR:PORT"))?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some("https" | "wss") => {
                return Err(fault(
                    "this command speaks to the server itself, without TLS, as in \
                     http://127.0.0.1:9090",
                ));
            }
            _ => return Err(fault("write http://ADDR:PORT")),
        }
        let host = uri.host().ok_or_else(|| fault("write http://ADDR:PORT"))?;
        let port = uri.port_u16().unwrap_or(80);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { authority: format!("{host}:{port}"), prefix })
    }

    pub(super) async fn connect(&self) -> Result<TcpStream, Error> {
        within("connecting", CONNECT, TcpStream::connect(&self.authority))
            .await
            .map_err(|expired| self.unreachable(&expired))?
            .map_err(|error| self.unreachable(&error))
    }

    pub(super) fn unreachable(&self, error: &dyn Display) -> Error {
        Error::Unavailable(format!(
            "no answer from {}: {error}; does the server run?",
            self.authority
        ))
    }

    /// Connected, and then it came to nothing before an answer.
    pub(super) fn unanswered(&self, error: &(dyn StdError + 'static)) -> Error {
        let authority = &self.authority;
        match without_answer(error) {
            NoAnswer::HungUp => Error::Unavailable(format!(
                "{authority} closed the connection without an answer; if that is a port of \
                 --listen-proxy, which is for the gate, give --to one of --listen"
            )),
            NoAnswer::Gibberish => Error::Data(format!(
                "{authority} answers what is not HTTP; if that is the gate, with TLS, give --to the \
                 server's own address"
            )),
            NoAnswer::Otherwise => self.unreachable(&error),
        }
    }

    /// An answer that is none of Tocsin's. Of what it says only the kind is told: it may repeat a key
    /// or an ID.
    pub(super) fn strange(&self, path: &str, status: StatusCode, headers: &HeaderMap) -> String {
        let Self { authority, prefix } = self;
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.map_or(String::new(), |kind| format!(" ({})", kind.escape_debug()));
        // As the gate and other servers answer who speaks to them without TLS.
        let hint = match status {
            StatusCode::BAD_REQUEST => "; if that is the gate, give it the server's own address",
            _ => "",
        };
        format!(
            "http://{authority}{prefix}{path} answers {status}{kind}, as no Tocsin server does \
             there: is --to right?{hint}"
        )
    }
}

enum NoAnswer {
    /// The other side closed.
    HungUp,
    /// It sent something else.
    Gibberish,
    Otherwise,
}

fn without_answer(error: &(dyn StdError + 'static)) -> NoAnswer {
    use tokio_tungstenite::tungstenite::Error as WsError;
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_parse() {
            return NoAnswer::Gibberish;
        }
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return NoAnswer::HungUp;
        }
    }
    match error.downcast_ref::<WsError>() {
        Some(WsError::ConnectionClosed | WsError::AlreadyClosed) => return NoAnswer::HungUp,
        Some(WsError::Protocol(ProtocolError::HandshakeIncomplete)) => return NoAnswer::HungUp,
        Some(WsError::Protocol(_) | WsError::HttpFormat(_)) => return NoAnswer::Gibberish,
        Some(WsError::Io(source)) if hung_up(source) => return NoAnswer::HungUp,
        _ => {}
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(hung_up) {
            return NoAnswer::HungUp;
        }
        cause = error.source();
    }
    NoAnswer::Otherwise
}

fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Tocsin's own words for a refusal: the code, and a line for people.
pub(super) fn refusal(reply: &Value) -> Option<(&str, String)> {
    let (error, detail) = (reply["error"].as_str()?, reply["detail"].as_str()?);
    Some((error, format!("{error}: {detail}")))
}

/// What an HTTP answer or a refusal says of when to come back.
pub(super) fn come_back(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
