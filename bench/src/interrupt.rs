//! The user's wish to end the run, for work on threads, which nobody can cancel from outside.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Longest sleep of a thread before it checks again whether the user wants to end.
const NAP: Duration = Duration::from_millis(100);

/// There is one user, and one run in a process.
static WISH: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

pub(crate) fn set() {
    WISH.cancel();
}

/// Fails once the user wants to end.
pub(crate) fn check() -> Result<()> {
    ensure!(!WISH.is_cancelled(), "interrupted");
    Ok(())
}

/// Sleeps, and fails when the user wants to end meanwhile.
pub(crate) fn sleep(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// Runs asynchronous work from a blocking thread of the runtime. The work is dropped when the user
/// wants to end.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    Handle::current().block_on(async {
        tokio::select! {
            outcome = work => outcome,
            () = WISH.cancelled() => bail!("interrupted"),
        }
    })
}
