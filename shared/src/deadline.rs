//! Deadlines for waiting on a peer. The error names the phase that took too long.

use std::future::Future;
use std::time::Duration;

/// A peer took longer than a phase allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{phase} took longer than {after:?}")]
pub struct Expired {
    /// The phase, in words: "TLS handshake".
    pub phase: &'static str,
    /// The time that was allowed.
    pub after: Duration,
}

/// Waits for `work`, at most for `limit`.
///
/// # Errors
/// [`Expired`] with `phase`. `work` is then dropped, so it must be cancel safe, or the peer must be
/// given up.
pub async fn within<T>(
    phase: &'static str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Expired> {
    tokio::time::timeout(limit, work).await.map_err(|_| Expired { phase, after: limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_error_names_the_phase() {
        let limit = Duration::from_secs(10);
        let error = within("TLS handshake", limit, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(error.to_string(), "TLS handshake took longer than 10s");
        assert_eq!(within("reply", limit, async { 7 }).await, Ok(7));
    }
}
