//! The server that a command connects to, and the errors if another program answers there.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::iter;
use std::time::Duration;

use hyper::{HeaderMap, StatusCode, Uri, header};
use serde_json::Value;
use shared::deadline::within;
use tokio::net::TcpStream;

use crate::error::Error;

const CONNECT: Duration = Duration::from_secs(5);

/// The parts of the server's URL.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// The address to connect to, `name:port`, which is also the `Host` header.
    pub(super) authority: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// The part of the URL that precedes every path, without a slash at its end.
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
                    "this command connects to the server itself, without TLS, for example at \
                     http://127.0.0.1:9090",
                ));
            }
            _ => return Err(fault("write http://ADDR:PORT")),
        }
        let host = uri.host().ok_or_else(|| fault("write http://ADDR:PORT"))?;
        let port = uri.port_u16().unwrap_or(80);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { authority: format!("{host}:{port}"), host: host.into(), port, prefix })
    }

    pub(super) async fn connect(&self) -> Result<TcpStream, Error> {
        within("connecting", CONNECT, TcpStream::connect(&self.authority))
            .await
            .map_err(|expired| self.unreachable(&expired))?
            .map_err(|error| self.unreachable(&error))
    }

    pub(super) fn unreachable(&self, error: &dyn Display) -> Error {
        Error::Unavailable(format!(
            "no answer from {}: {error}; is the server running?",
            self.authority
        ))
    }

    /// The error of a connection that ended before the answer was complete.
    pub(super) fn unanswered(&self, error: &(dyn StdError + 'static)) -> Error {
        let authority = &self.authority;
        match without_answer(error) {
            NoAnswer::Closed => Error::Unavailable(format!(
                "{authority} closed the connection without an answer; if it is a port of \
                 --listen-proxy, which is for the gate, give --to a port of --listen"
            )),
            NoAnswer::NotHttp => Error::Data(format!(
                "{authority} answers something that is not HTTP; if it is the gate, which \
                 expects TLS, give --to the address of the server itself"
            )),
            NoAnswer::Other => self.unreachable(&error),
        }
    }

    /// The error for an answer that does not come from Tocsin. Of the answer it repeats only the
    /// status and the content type, because the body may contain a key or an ID.
    pub(super) fn strange(&self, path: &str, status: StatusCode, headers: &HeaderMap) -> String {
        let Self { authority, prefix, .. } = self;
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.map_or(String::new(), |kind| format!(" ({})", kind.escape_debug()));
        // The gate and other TLS servers answer 400 to a client that does not use TLS.
        let hint = match status {
            StatusCode::BAD_REQUEST => {
                "; if that is the gate, give --to the address of the server itself"
            }
            _ => "",
        };
        format!(
            "http://{authority}{prefix}{path} answers {status}{kind}, as no Tocsin server does: is \
             --to right?{hint}"
        )
    }
}

enum NoAnswer {
    Closed,
    NotHttp,
    Other,
}

fn without_answer(error: &(dyn StdError + 'static)) -> NoAnswer {
    use tokio_tungstenite::tungstenite::Error as WsError;
    use tokio_tungstenite::tungstenite::error::ProtocolError::HandshakeIncomplete;
    for cause in iter::successors(Some(error), |cause| StdError::source(*cause)) {
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            if error.is_parse() {
                return NoAnswer::NotHttp;
            }
            if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                return NoAnswer::Closed;
            }
        }
        match cause.downcast_ref::<WsError>() {
            Some(
                WsError::ConnectionClosed
                | WsError::AlreadyClosed
                | WsError::Protocol(HandshakeIncomplete),
            ) => return NoAnswer::Closed,
            Some(WsError::Protocol(_) | WsError::HttpFormat(_)) => return NoAnswer::NotHttp,
            _ => {}
        }
        if cause.downcast_ref::<io::Error>().is_some_and(is_closed) {
            return NoAnswer::Closed;
        }
    }
    NoAnswer::Other
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// The code and the message of a refusal by Tocsin.
pub(super) fn refusal(reply: &Value) -> Option<(&str, String)> {
    let (error, detail) = (reply["error"].as_str()?, reply["detail"].as_str()?);
    Some((error, format!("{error}: {detail}")))
}

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
