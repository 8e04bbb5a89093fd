//! Whether everyone who is alive has been heard.

use std::time::Duration;

use tokio::time::Instant;

/// Who has listened for so long has heard of everyone who is alive.
pub(super) const SETTLED: Duration = Duration::from_millis(750);
/// One's own reports come back so often, or nobody's may have come: three of them at least.
pub(super) const ECHO: Duration = Duration::from_millis(1_500);

/// Listening over one connection. That there is one says nothing yet of what comes through: that
/// shows by this server's own reports, which come back as everyone's do.
#[derive(Debug)]
pub(super) struct Listening {
    connection: u64,
    /// The number of the last report before it.
    told: u64,
    /// How long they have come back without a break.
    echo: Option<Echo>,
}

#[derive(Debug)]
struct Echo {
    since: Instant,
    last: Instant,
}

impl Listening {
    /// Over this connection; the last report had this number.
    pub(super) fn begin(connection: u64, told: u64) -> Self {
        Self { connection, told, echo: None }
    }

    /// This server's report of that number has come back.
    pub(super) fn echo(&mut self, number: u64) {
        // By the connection before, of which something may have been left.
        if number <= self.told {
            return;
        }
        let now = Instant::now();
        match &mut self.echo {
            Some(echo) if echo.last + ECHO > now => echo.last = now,
            // After a silence nobody knows who has come meanwhile.
            echo => *echo = Some(Echo { since: now, last: now }),
        }
    }

    /// When everyone has been heard, if this server's reports come back until then.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.echo.as_ref().map(|echo| echo.since + SETTLED)
    }

    /// Whether everyone has been heard, if the connection is still that one.
    pub(super) fn is_settled(&self, connection: u64) -> bool {
        let heard = |echo: &Echo| echo.since.elapsed() >= SETTLED && echo.last.elapsed() < ECHO;
        self.connection == connection && self.echo.as_ref().is_some_and(heard)
    }
}
