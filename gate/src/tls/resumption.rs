//! Session tickets, so that a client that comes back skips most of the handshake.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

use crate::error::Error;

/// Sessions of TLS 1.2 clients without tickets, which are few and old.
const SESSIONS: usize = 256;

/// How often it is asked whether the ticket keys are too old.
const ROTATION_CHECK: Duration = Duration::from_secs(60);

/// What resumption needs of the server: the keys that session tickets are sealed with, which
/// rotate when they are used, and the sessions of TLS 1.2 clients that take no tickets.
///
/// Made once and kept for the life of the process: a configuration with new ones could not open
/// any ticket given out before, and resumption would silently never work.
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

    /// Has the keys replaced in time although nobody comes: it happens when they are used, so that
    /// those of an idle gate would stay, and open tickets of any age to the next client. Never ends.
    pub(crate) async fn rotate(self) {
        loop {
            tokio::time::sleep(ROTATION_CHECK).await;
            // Nobody's ticket, which none of them opens.
            let _ = self.tickets.decrypt(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/security.md tells it.
    #[test]
    fn ticket_keys_live_for_half_a_day() {
        let resumption = Resumption::new().unwrap();
        assert!(resumption.tickets.enabled());
        assert_eq!(resumption.tickets.lifetime(), 12 * 60 * 60);
    }
}
