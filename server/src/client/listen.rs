//! Registers and prints what comes.

use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use shared::deadline::within;
use shared::shutdown::StopSignals;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{Server, print_line};
use crate::error::Error;
use crate::id::{Id, Tag};

const CONNECT: Duration = Duration::from_secs(5);
/// A living server pings a registered connection every 25 s by default.
const SILENCE: Duration = Duration::from_secs(120);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Prints messages, each as one line of JSON, until `count` of them came or a stop signal; comes
/// back after the server was away.
pub(super) async fn listen(
    tag: &str,
    id: Option<&Id>,
    key: Option<&str>,
    count: Option<u64>,
    to: &str,
) -> Result<(), Error> {
    let server = Server::parse(to)?;
    let tag = Tag::parse(tag).map_err(|error| Error::Data(format!("bad_tag: {error}")))?;
    let mut listener = Listener {
        set: json!({
            "action": "set", "tag": tag.as_str(), "id": id.map(Id::reveal), "key": key,
        })
        .to_string(),
        left: count,
        registered: false,
        came_back: false,
    };
    let mut signals =
        StopSignals::install().map_err(|source| Error::Os { what: "signals", source })?;
    let mut wait = FIRST_WAIT;
    loop {
        listener.came_back = false;
        let ended = tokio::select! {
            ended = listener.listen_once(&server) => ended,
            _ = signals.next() => return Ok(()),
        };
        let reason = match ended {
            Ok(()) => return Ok(()),
            // The first time, the address is more likely wrong than the server away.
            Err(Error::Unavailable(reason)) if listener.registered => reason,
            Err(error) => return Err(error),
        };
        if listener.came_back {
            wait = FIRST_WAIT;
        }
        tracing::warn!("{reason}; trying again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = signals.next() => return Ok(()),
        }
        wait = LONGEST_WAIT.min(wait * 2);
    }
}

struct Listener {
    set: String,
    left: Option<u64>,
    /// Whether the server has ever accepted the registration.
    registered: bool,
    /// Whether it has accepted it since the last connection was lost.
    came_back: bool,
}

impl Listener {
    /// `Ok` when enough messages came; `Unavailable` when the connection ended.
    async fn listen_once(&mut self, server: &Server) -> Result<(), Error> {
        let mut socket = within("connecting", CONNECT, connect(server))
            .await
            .map_err(|expired| server.unreachable(&expired))??;
        let lost = |error: &dyn std::fmt::Display| server.unreachable(error);
        socket.send(Message::text(self.set.clone())).await.map_err(|error| lost(&error))?;
        loop {
            let message = within("a sign of life", SILENCE, socket.next())
                .await
                .map_err(|expired| lost(&expired))?;
            match message {
                Some(Ok(Message::Text(text))) => {
                    if self.on_text(&text)?.is_break() {
                        let _ = socket.close(None).await;
                        return Ok(());
                    }
                }
                Some(Ok(Message::Close(Some(close)))) if !comes_back(close.code) => {
                    return Err(Error::Denied(format!("the server closed: {}", close.reason)));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(&error)),
                None => return Err(lost(&"the connection ended")),
            }
        }
    }

    fn on_text(&mut self, text: &str) -> Result<ControlFlow<()>, Error> {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(error) = value["error"].as_str() {
            let words = format!("{error}: {}", value["detail"].as_str().unwrap_or_default());
            return Err(match error {
                "denied" => Error::Denied(words),
                "unavailable" | "rate_limited" => Error::Unavailable(words),
                _ => Error::Data(words),
            });
        }
        if value["ok"] == "set" {
            self.registered = true;
            self.came_back = true;
            tracing::info!("registered");
        }
        if value["ok"].is_string() || value["event"].is_string() {
            return Ok(ControlFlow::Continue(()));
        }
        print_line(text)?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(match self.left {
            Some(0) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }
}

async fn connect(server: &Server) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream =
        TcpStream::connect(&server.authority).await.map_err(|error| server.unreachable(&error))?;
    let url = format!("ws://{}{}/ws", server.authority, server.prefix);
    let config = WebSocketConfig::default();
    match client_async_with_config(url, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(answer)) => {
            Err(Error::Data(format!("{} answers {}; see --to", server.authority, answer.status())))
        }
        Err(error) => Err(server.unreachable(&error)),
    }
}

/// Close codes that mean to stay away: see the protocol's list.
fn comes_back(code: CloseCode) -> bool {
    !matches!(u16::from(code), 1002 | 1003 | 1007 | 1009 | 4004 | 4005 | 4500)
}
