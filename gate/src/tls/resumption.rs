//! Session resumption: a returning client skips most of the handshake.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use crate::error::Error;

/// The number of stored sessions of TLS 1.2 clients without ticket support. Such clients are old
/// and rare.
const SESSIONS: usize = 256;

/// How often the age of the ticket keys is checked.
const ROTATION_CHECK: Duration = Duration::from_secs(60);

/// The keys that encrypt session tickets, and the sessions of TLS 1.2 clients that do not support
/// tickets.
///
/// Created once and kept for the life of the process. With new keys for each certificate, older
/// tickets could not be decrypted, and resumption would fail without any message.
#[derive(Debug, Clone)]
pub(crate) struct Resumption {
    pub(super) tickets: Arc<dyn ProducesTickets>,
    pub(super) sessions: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            tickets: aws_lc_rs::Ticketer::new().map_err(Error::Tls)?,
            sessions: ServerSessionMemoryCache::new(SESSIONS),
        })
    }

    /// Replaces the ticket keys in time even if no client connects. rustls rotates the keys only
    /// when they are used, so an idle gate would keep old keys, and its next client could resume
    /// with a ticket of any age. Never ends.
    pub(crate) async fn rotate(self) {
        loop {
            tokio::time::sleep(ROTATION_CHECK).await;
            // No key can decrypt an empty ticket, but the attempt rotates the keys if they are due.
            let _ = self.tickets.decrypt(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/security.md promises this lifetime.
    #[test]
    fn ticket_keys_live_for_half_a_day() {
        let resumption = Resumption::new().unwrap();
        assert!(resumption.tickets.enabled());
        assert_eq!(resumption.tickets.lifetime(), 12 * 60 * 60);
    }
}
