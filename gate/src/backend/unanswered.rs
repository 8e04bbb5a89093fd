//! A server that closes connections without a word, as one does that the gate is wrongly paired with:
//! it waits for a PROXY header that does not come, or takes the header for nonsense.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many in a row are no single odd client any more.
const SUSPICIOUS: u64 = 3;

/// How often it is told while it goes on.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Connections that the server ended without an answer, since it last answered anybody.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<Row>);

#[derive(Debug, Default)]
struct Row {
    length: u64,
    /// Bytes that the server had sent by the last of them, to all clients.
    answered: u64,
    told: Option<Instant>,
}

impl Unanswered {
    /// Counts one more; `answered` is how many bytes the server has sent so far, to all clients. The
    /// number of them if it is to be told.
    pub(super) fn add(&self, answered: u64) -> Option<u64> {
        let mut row = self.0.lock();
        if row.answered != answered {
            row.answered = answered;
            row.length = 0;
        }
        row.length += 1;
        let due = row.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN);
        let tell = row.length >= SUSPICIOUS && due;
        if tell {
            row.told = Some(Instant::now());
        }
        tell.then_some(row.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_row_is_told_once_a_minute_with_its_length() {
        let unanswered = Unanswered::default();
        let told = [0; 5].map(|answered| unanswered.add(answered));
        assert_eq!(told, [None, None, Some(3), None, None]);
        tokio::time::advance(TELL_AGAIN).await;
        assert_eq!(unanswered.add(0), Some(6));
        assert_eq!(unanswered.add(0), None);
    }

    #[test]
    fn an_answer_to_anybody_ends_the_row() {
        let unanswered = Unanswered::default();
        let told = [0, 0, 10, 10, 30, 30].map(|answered| unanswered.add(answered));
        assert_eq!(told, [None; 6]);
        assert_eq!(unanswered.add(30), Some(3));
    }
}
