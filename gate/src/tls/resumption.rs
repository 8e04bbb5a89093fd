//! Session resumption: a client that comes back skips most of the handshake.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use crate::error::Error;

/// How many sessions of TLS 1.2 clients without ticket support are kept. Such clients are few and
/// old.
const SESSIONS: usize = 256;

/// How often the age of the ticket keys is checked.
const ROTATION_CHECK: Duration = Duration::from_secs(60);

/// The keys that session tickets are encrypted with, and the sessions of TLS 1.2 clients that take
/// no tickets.
///
/// Created once and kept for the life of the process. With new keys for each certificate, no ticket
/// given out before could be opened, and resumption would silently never work.
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

    /// Replaces the keys in time although no client comes. rustls rotates them only when they are
    /// used, so an idle gate would keep the old keys, and open tickets of any age for the next
    /// client. Never ends.
    pub(crate) async fn rotate(self) {
        loop {
            tokio::time::sleep(ROTATION_CHECK).await;
            // An empty ticket, which no key opens. Trying it rotates the keys if they are due.
            let _ = self.tickets.decrypt(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/security.md promises this time.
    #[test]
    fn ticket_keys_live_for_half_a_day() {
        let resumption = Resumption::new().unwrap();
        assert!(resumption.tickets.enabled());
        assert_eq!(resumption.tickets.lifetime(), 12 * 60 * 60);
    }
}
