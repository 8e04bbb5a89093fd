//! Closing without losing the last words.
//!
//! A socket that is closed while input is left unread sends RST, and RST makes the peer's kernel
//! throw away what it has not read yet: an alert, an error page, the end of an answer. So what
//! the peer still sends is taken and thrown away for a while.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Time to wait for the peer to close.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);

/// Bytes to throw away before giving up on a peer that does not stop.
const MOST: usize = 256 * 1024;

/// Ends our side, throws away input until the peer ends its own, [`LIMIT`] has passed or too
/// much came, and closes.
pub(crate) async fn linger(mut stream: TcpStream) {
    // An error means that the peer is gone already.
    if stream.shutdown().await.is_ok() {
        let _ = tokio::time::timeout(LIMIT, discard(&stream)).await;
    }
}

async fn discard(stream: &TcpStream) {
    let mut left = MOST;
    while left > 0 && stream.readable().await.is_ok() {
        match throw_away(stream) {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_gone) => return,
        }
    }
}

/// Apart, so that the buffer lives on the stack and not in every connection's future.
fn throw_away(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; 4_096])
}
