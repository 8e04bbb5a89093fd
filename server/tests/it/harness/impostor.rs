//! A server that gives the command line's clients the answers that a test wants.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use testkit::soon;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

pub(crate) struct Impostor(TcpListener);

/// A WebSocket that the impostor has accepted.
pub(crate) struct Accepted(WebSocketStream<TcpStream>);

impl Impostor {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    async fn accept(&self) -> TcpStream {
        soon(self.0.accept()).await.unwrap().0
    }

    /// Answers the next request with `bytes`, and closes the connection.
    pub(crate) async fn answer(&self, bytes: &[u8]) {
        let mut stream = self.accept().await;
        let mut asked = Vec::new();
        // Reads the head byte by byte; the body is small and does not matter.
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut asked).await;
    }

    /// Accepts the next connection as a WebSocket, and reads its first frame.
    pub(crate) async fn websocket(&self) -> (Accepted, Value) {
        let mut socket = accept_async(self.accept().await).await.unwrap();
        let first = soon(socket.next()).await;
        let first = first.unwrap().unwrap().into_text().unwrap();
        (Accepted(socket), serde_json::from_str(&first).unwrap())
    }
}

impl Accepted {
    pub(crate) async fn says(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub(crate) async fn closes(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.0.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }
}
