//! Whether every live server has been heard.

use std::time::Duration;

use tokio::time::Instant;

/// A server that has listened for this time has heard every live server: more than one heartbeat.
pub(super) const SETTLED: Duration = Duration::from_millis(750);
/// If this server's own reports do not come back for this time, three heartbeats, others' may be lost.
pub(super) const ECHO: Duration = Duration::from_millis(1_500);

/// Listening over one connection. Whether reports come through shows by this server's own, which come
/// back like everyone's.
#[derive(Debug)]
pub(super) struct Listening {
    connection: u64,
    /// The number of the last report over the previous connection.
    told: u64,
    /// Since when reports have come back without a break.
    echo: Option<Echo>,
}

#[derive(Debug)]
struct Echo {
    since: Instant,
    last: Instant,
}

impl Listening {
    /// Listens over this connection. `told` is the number of the last report before it.
    pub(super) fn begin(connection: u64, told: u64) -> Self {
        Self { connection, told, echo: None }
    }

    /// A report of this server has come back.
    pub(super) fn echo(&mut self, number: u64) {
        // The report was sent over the previous connection.
        if number <= self.told {
            return;
        }
        let now = Instant::now();
        match &mut self.echo {
            Some(echo) if echo.last + ECHO > now => echo.last = now,
            // After a silence there may be servers that were not heard.
            echo => *echo = Some(Echo { since: now, last: now }),
        }
    }

    /// The time at which every live server has been heard, if this server's reports come back until
    /// then.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.echo.as_ref().map(|echo| echo.since + SETTLED)
    }

    /// Whether every live server has been heard, over this connection.
    pub(super) fn is_settled(&self, connection: u64) -> bool {
        let heard = |echo: &Echo| echo.since.elapsed() >= SETTLED && echo.last.elapsed() < ECHO;
        self.connection == connection && self.echo.as_ref().is_some_and(heard)
    }
}
