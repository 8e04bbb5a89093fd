//! Waits with a time limit.

use std::panic::Location;
use std::time::Duration;

/// How long a test waits for an expected event. Only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits `work` for at most [`PATIENCE`].
///
/// # Panics
/// If `work` takes longer than [`PATIENCE`]. The message names the caller's line.
#[track_caller]
pub fn soon<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    within(PATIENCE, work)
}

/// Awaits `work` for at most `limit`.
///
/// # Panics
/// If `work` takes longer than `limit`. The message names the caller's line.
#[track_caller]
pub fn within<T>(limit: Duration, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let Ok(done) = tokio::time::timeout(limit, work).await else {
            panic!("{caller}: this takes longer than {limit:?}")
        };
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_late_fails_with_the_line_of_the_caller() {
        let late = tokio::spawn(within(Duration::ZERO, std::future::pending::<()>()));
        let panic = late.await.unwrap_err().into_panic();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.starts_with("testkit/src/deadline.rs:"), "{text}");
        assert_eq!(soon(async { 1 }).await, 1);
    }
}
