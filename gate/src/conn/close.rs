//! Closes a connection in a way that lets both peers receive the last bytes.

use std::future::poll_fn;

use shared::linger::linger;
use tokio::net::TcpStream;

use super::flow::Ended;
use crate::buffer;
use crate::tls::TlsSession;

/// Closes the sockets that are still open after the relay.
pub(super) async fn close(ended: Ended) {
    tokio::join!(
        async {
            if let Some(client) = ended.client {
                linger(&client).await;
            }
        },
        async {
            if let Some(backend) = ended.backend {
                backend.linger().await;
            }
        }
    );
}

/// Ends a connection that got no backend, with a `close_notify`. The client can then tell that the
/// server closed the connection and the network did not fail.
pub(super) async fn close_without_backend(mut client: TcpStream, mut session: TlsSession) {
    let sent = poll_fn(|cx| {
        buffer::with(|scratch| {
            session.send_close_notify(&mut scratch.output);
            session.send(&mut client, cx, &mut scratch.output);
        });
        session.poll_flush(&mut client, cx)
    });
    if sent.await.is_ok() {
        linger(&client).await;
    }
}
