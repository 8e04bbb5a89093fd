//! A WebSocket client for tests.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use testkit::soon;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::proxy_line;

/// A connection that can carry a WebSocket.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
    /// The number of pings received so far.
    pub(crate) pings: u32,
}

impl Client {
    /// Connects with additional headers. The error is the HTTP status of a refusal.
    pub(crate) async fn connect(
        to: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let stream = TcpStream::connect(to).await.unwrap();
        let connected = Self::over(stream, &format!("ws://{to}{path}"), headers).await;
        connected.map_err(|answer| answer.status().as_u16())
    }

    /// Connects over an open stream. The error is the HTTP response of a refusal.
    pub(crate) async fn over(
        stream: impl Stream + 'static,
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Box<Response>> {
        let stream: Box<dyn Stream> = Box::new(stream);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self { socket, pings: 0 }),
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer),
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects over an open stream as a proxy does for a client at `from`. The error contains the
    /// status and the `Retry-After` header of a refusal.
    pub(crate) async fn connect_as_proxy(
        mut stream: impl Stream + 'static,
        from: &str,
    ) -> Result<Self, (u16, Option<String>)> {
        stream.write_all(proxy_line(from).as_bytes()).await.unwrap();
        Self::over(stream, "ws://localhost/ws", &[]).await.map_err(|answer| {
            let wait = answer.headers().get("retry-after");
            let wait = wait.map(|wait| wait.to_str().unwrap().to_owned());
            (answer.status().as_u16(), wait)
        })
    }

    pub(crate) async fn send(&mut self, value: &Value) {
        self.send_text(&value.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends all values in one write. Frames that stay in the kernel of the client would be lost if
    /// the connection is reset.
    pub(crate) async fn send_at_once(&mut self, values: impl IntoIterator<Item = Value>) {
        for value in values {
            self.socket.feed(Message::text(value.to_string())).await.unwrap();
        }
        self.socket.flush().await.unwrap();
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    /// Reads the next bytes as they are on the wire. No frame may have been read ahead.
    pub(crate) async fn read_raw(&mut self, bytes: &mut [u8]) {
        let reading = self.socket.get_mut().read_exact(bytes);
        soon(reading).await.expect("an open connection");
    }

    /// Returns the next text frame.
    pub(crate) async fn next_text(&mut self) -> String {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                other => panic!("{other:?} instead of a text"),
            }
        }
    }

    /// Returns the next text frame as JSON.
    pub(crate) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).unwrap()
    }

    /// Returns the next text frame as JSON, or the close code as the error.
    pub(crate) async fn next_or_closed(&mut self) -> Result<Value, Option<u16>> {
        match soon(self.socket.next()).await {
            Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(close))) => Err(close.map(|close| close.code.into())),
            other => panic!("{other:?} instead of a text or an end"),
        }
    }

    /// Returns the next text frame as JSON, or `None` if another frame or the end comes first.
    pub(crate) async fn next_or_ended(&mut self) -> Option<Value> {
        match soon(self.socket.next()).await {
            Some(Ok(Message::Text(text))) => Some(serde_json::from_str(&text).unwrap()),
            _ => None,
        }
    }

    /// Waits for the next frame, which must be a ping.
    pub(crate) async fn next_ping(&mut self) {
        match soon(self.socket.next()).await {
            Some(Ok(Message::Ping(_))) => self.pings += 1,
            other => panic!("{other:?} instead of a ping"),
        }
    }

    /// Waits for the next pong.
    pub(crate) async fn next_pong(&mut self) {
        assert_eq!(self.next_pong_or_closed().await, Ok(()));
    }

    pub(crate) async fn next_pong_or_closed(&mut self) -> Result<(), Option<u16>> {
        match soon(self.socket.next()).await {
            Some(Ok(Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(close))) => Err(close.map(|close| close.code.into())),
            other => panic!("{other:?} instead of a pong"),
        }
    }

    /// Sends an action and returns the next frame, which must be its reply.
    pub(crate) async fn ask(&mut self, value: &Value) -> Value {
        self.send(value).await;
        self.next().await
    }

    pub(crate) async fn set(&mut self, tag: &str, id: Option<&str>) {
        let reply = self.ask(&json!({"action": "set", "tag": tag, "id": id})).await;
        assert_eq!(reply["ok"], "set", "{reply}");
        let live = self.next().await;
        assert_eq!((&live["event"], &live["tag"]), (&json!("live"), &json!(tag)));
    }

    /// Sends the action until it is rate limited. Returns how often it was granted, and the wait in
    /// milliseconds that the refusal names. Even a slow machine sends more than one action a
    /// second.
    pub(crate) async fn until_too_often(&mut self, value: &Value) -> (u64, u64) {
        for granted in 0..100 {
            let reply = self.ask(value).await;
            if reply["error"] == "rate_limited" {
                return (granted, reply["retry_in_ms"].as_u64().unwrap());
            }
            assert!(reply["ok"].is_string(), "{reply}");
        }
        panic!("{value} is never too often");
    }

    /// Returns the next delivered message.
    pub(crate) async fn message(&mut self) -> Value {
        let value = self.next().await;
        assert!(value.get("message").is_some(), "{value} is no message");
        value["message"].clone()
    }

    /// Drops the TCP connection without a close frame.
    pub(crate) fn vanish(self) {}

    /// Closes as RFC 6455 requires, and waits until the server has closed the connection too.
    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        assert_eq!(self.closed().await, None);
    }

    /// Reads to the end. Returns the close code, if the server has sent one.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let reading = async {
            let mut code = None;
            while let Some(Ok(frame)) = self.socket.next().await {
                if let Message::Close(close) = frame {
                    code = close.map(|close| close.code.into());
                }
            }
            code
        };
        soon(reading).await
    }
}
