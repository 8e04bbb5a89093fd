//! The key for sending that a server makes when it is given none, and where senders find it.
//!
//! The server keeps it in a file whose name follows from its port, so that several servers of one machine
//! do not share one. PHP's `Tocsin` class looks at the same places.

mod make;
mod places;
mod search;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::auth::KeyHash;
use crate::access::policy::Policy;

pub(crate) use search::{Found, find};

/// The key for sending of this server. It is made when it is first needed.
#[derive(Debug)]
pub(crate) struct SenderKey {
    data: Option<PathBuf>,
    port: u16,
    made: Option<KeyHash>,
}

impl SenderKey {
    /// `data` is the data directory, if there is one. `address` is where senders connect; without one, the
    /// file has the name for the usual port.
    pub(crate) fn new(data: Option<PathBuf>, address: Option<SocketAddr>) -> Self {
        let port = address.map_or(places::USUAL_PORT, |address| address.port());
        Self { data, port, made: None }
    }

    /// Permits whoever has the key to send and broadcast. If the key can be kept nowhere, a warning is
    /// logged, and nobody can.
    pub(crate) fn permit(&mut self, policy: &mut Policy) {
        if self.made.is_none() {
            match make::read_or_make(
                self.data.as_deref(),
                &places::file_name(self.port),
                &places::of_server(),
            ) {
                Ok(kept) => {
                    tracing::info!(
                        "no key is configured, so the key in {} permits send and broadcast",
                        kept.file.display()
                    );
                    self.made = Some(kept.hash);
                }
                Err(error) => tracing::warn!(
                    "nobody can send or broadcast, because no key is configured and none can be kept: \
                     {error}; give one with --protect '*:send:FILE' and '*:broadcast:FILE', or a \
                     directory with --data"
                ),
            }
        }
        if let Some(key) = &self.made {
            policy.auth.permit_sending(key);
        }
    }
}
