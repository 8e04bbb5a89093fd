//! Throttles log lines about events that may happen at any rate.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The shortest time between two log lines.
const PAUSE: Duration = Duration::from_secs(60);

/// Counts an event and permits at most one log line a minute. Use it as a `static`, or as a field
/// of the object that the event concerns.
#[derive(Debug, Default)]
pub struct LogThrottle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    /// How many events there were since `logged`.
    times: u64,
}

impl LogThrottle {
    /// Creates a throttle without events.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: Mutex::new(State { logged: None, times: 0 }) }
    }

    /// Counts one event. If a line should be logged now, returns the number of events since the
    /// last line, this one included.
    pub fn record(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.times += 1;
        if state.logged.is_some_and(|logged| logged.elapsed() < PAUSE) {
            return None;
        }
        state.logged = Some(Instant::now());
        Some(std::mem::take(&mut state.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_logged_at_once_and_then_once_a_minute_with_how_often() {
        let throttle = LogThrottle::new();
        assert_eq!(throttle.record(), Some(1));
        assert_eq!((throttle.record(), throttle.record()), (None, None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(throttle.record(), Some(3));
        assert_eq!(throttle.record(), None);
    }
}
