//! Finds out whether this server has heard every live server.

use std::time::Duration;

use tokio::time::Instant;

/// After listening for this time, which is longer than one heartbeat, a server has heard every live
/// server.
pub(super) const SETTLED: Duration = Duration::from_millis(750);
/// If this server's own reports do not come back for this time (three heartbeats), the reports of
/// other servers may be lost too.
pub(super) const ECHO: Duration = Duration::from_millis(1_500);

/// The state of listening over one connection. NATS also sends this server's own reports back.
/// Whether they arrive shows whether the other servers' reports arrive.
#[derive(Debug)]
pub(super) struct Listening {
    connection: u64,
    /// The number of the last report that was sent over the previous connection.
    told: u64,
    /// The time since which this server's reports have come back without a break.
    echo: Option<Echo>,
}

#[derive(Debug)]
struct Echo {
    since: Instant,
    last: Instant,
}

impl Listening {
    /// Starts to listen over this connection. `told` is the number of the last report before it.
    pub(super) fn begin(connection: u64, told: u64) -> Self {
        Self { connection, told, echo: None }
    }

    /// Notes that the report `number` of this server has come back.
    pub(super) fn echo(&mut self, number: u64) {
        // This report was sent over the previous connection.
        if number <= self.told {
            return;
        }
        let now = Instant::now();
        match &mut self.echo {
            Some(echo) if echo.last + ECHO > now => echo.last = now,
            // Before this report there was a break, in which this server may have missed reports of
            // new servers.
            echo => *echo = Some(Echo { since: now, last: now }),
        }
    }

    /// The time at which this server has heard every live server, if its own reports come back
    /// until then.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.echo.as_ref().map(|echo| echo.since + SETTLED)
    }

    /// Whether this server has heard every live server over this connection.
    pub(super) fn is_settled(&self, connection: u64) -> bool {
        let heard = |echo: &Echo| echo.since.elapsed() >= SETTLED && echo.last.elapsed() < ECHO;
        self.connection == connection && self.echo.as_ref().is_some_and(heard)
    }
}
