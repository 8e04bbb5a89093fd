//! Detects a server that closes every connection without an answer. Such a server disagrees with
//! the gate about the PROXY protocol: it expects a header that the gate does not send, or it cannot
//! read the header that the gate sends.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The number of unanswered connections in a row that causes a warning. Fewer may come from one
/// faulty client.
const SUSPICIOUS: u64 = 3;

/// The least time between two warnings.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Connections that the server closed without an answer since it last answered any client.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<Streak>);

#[derive(Debug, Default)]
struct Streak {
    length: u64,
    /// Bytes that the server had sent to all clients when this streak's last connection was closed.
    answered: u64,
    logged: Option<Instant>,
}

impl Unanswered {
    /// Counts a connection that was closed without an answer. `answered` is the number of bytes
    /// that the server has sent so far to all clients. Returns the length of the streak if it
    /// should be logged now.
    pub(super) fn add(&self, answered: u64) -> Option<u64> {
        let mut streak = self.0.lock();
        if streak.answered != answered {
            streak.answered = answered;
            streak.length = 0;
        }
        streak.length += 1;
        let due = streak.logged.is_none_or(|logged| logged.elapsed() >= LOG_AGAIN);
        let log = streak.length >= SUSPICIOUS && due;
        if log {
            streak.logged = Some(Instant::now());
        }
        log.then_some(streak.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_row_is_told_once_a_minute_with_its_length() {
        let unanswered = Unanswered::default();
        let logged = [0; 5].map(|answered| unanswered.add(answered));
        assert_eq!(logged, [None, None, Some(3), None, None]);
        tokio::time::advance(LOG_AGAIN).await;
        assert_eq!(unanswered.add(0), Some(6));
        assert_eq!(unanswered.add(0), None);
    }

    #[test]
    fn an_answer_to_anybody_ends_the_row() {
        let unanswered = Unanswered::default();
        let logged = [0, 0, 10, 10, 30, 30].map(|answered| unanswered.add(answered));
        assert_eq!(logged, [None; 6]);
        assert_eq!(unanswered.add(30), Some(3));
    }
}
