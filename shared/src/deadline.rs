//! Time-outs for waiting for a peer. The error names the phase that took too long.

use std::future::Future;
use std::time::Duration;

/// The error of a phase that took longer than its time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{phase} took longer than {after:?}")]
pub struct Expired {
    /// The name of the phase, for example "TLS handshake".
    pub phase: &'static str,
    /// The time-out of the phase.
    pub after: Duration,
}

/// Waits for `work`, for at most `limit`.
///
/// # Errors
/// [`Expired`] with `phase` if the time is over. `work` is then dropped, so it must be cancel safe,
/// or the connection must be closed.
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
