//! What may happen at any time and at any rate, but is told now and then only.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long nothing is told after it was.
const PAUSE: Duration = Duration::from_secs(60);

/// Counts what happens, and says once a minute at most that it is to be told. Meant for a
/// `static`, or the place that it is about.
#[derive(Debug, Default)]
pub struct LogThrottle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    /// Since then.
    times: u64,
}

impl LogThrottle {
    /// Nothing has happened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: Mutex::new(State { told: None, times: 0 }) }
    }

    /// It has happened once more. If it is to be told: how often since it was told before.
    pub fn record(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.times += 1;
        if state.told.is_some_and(|told| told.elapsed() < PAUSE) {
            return None;
        }
        state.told = Some(Instant::now());
        Some(std::mem::take(&mut state.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_at_once_and_then_once_a_minute_with_how_often() {
        let throttle = LogThrottle::new();
        assert_eq!(throttle.record(), Some(1));
        assert_eq!((throttle.record(), throttle.record()), (None, None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(throttle.record(), Some(3));
        assert_eq!(throttle.record(), None);
    }
}
