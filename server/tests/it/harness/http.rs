//! Sends HTTP requests byte for byte, and reads the answers.

use std::net::SocketAddr;

use testkit::soon;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Stream;

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// The body as text. The next field has it as bytes.
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Returns the head of a request that publishes, without `Connection: close`.
pub(crate) fn post_head(length: usize) -> String {
    format!("POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

/// Sends one HTTP request on a connection of its own. The header `Host` contains the address unless
/// `headers` has another one.
pub(crate) async fn request(to: SocketAddr, line: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut head =
        format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        head.push_str(&format!("Host: {to}\r\n"));
    }
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    exchange(to, &[head.as_bytes(), body].concat()).await
}

/// Sends the bytes, or as many as the server accepts, and reads the answer to the end.
pub(crate) async fn exchange(to: SocketAddr, bytes: &[u8]) -> Answer {
    exchange_over(TcpStream::connect(to).await.unwrap(), bytes).await
}

/// Does the same as [`exchange`], over an open stream.
pub(crate) async fn exchange_over(mut stream: impl Stream, bytes: &[u8]) -> Answer {
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // A reset may follow the answer.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a whole head");
    let bytes = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap().trim_end().to_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
}
