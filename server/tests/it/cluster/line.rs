//! A line that can be cut: between one server and NATS.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::PATIENCE;

/// Passes bytes on while it is whole.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
    /// Connections that came while it was cut.
    refused: Arc<watch::Sender<u32>>,
}

impl Line {
    pub(crate) async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let whole = Arc::new(watch::Sender::new(true));
        let refused = Arc::new(watch::Sender::new(0));
        let (state, count) = (Arc::clone(&whole), Arc::clone(&refused));
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut state = state.subscribe();
                if !*state.borrow_and_update() {
                    count.send_modify(|count| *count += 1);
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { address, whole, refused }
    }

    /// Ends every connection and takes no new ones.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Ends when so many connections in all have come while it was cut.
    pub(crate) async fn until_refused(&self, attempts: u32) {
        let mut refused = self.refused.subscribe();
        let seen = refused.wait_for(|count| *count >= attempts);
        tokio::time::timeout(PATIENCE, seen).await.expect("attempts in time").unwrap();
    }

    pub(crate) fn heal(&self) {
        self.whole.send_replace(true);
    }
}
