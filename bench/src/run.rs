//! Helpers of every run: the user's wish to end it, the limit of open files, and texts with values.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use shared::descriptors::raise_limit;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// The longest sleep of a thread before it checks again whether the user wants to end.
const NAP: Duration = Duration::from_millis(100);

/// Cancelled when the user wants to end. It is global, because a process has one run.
static WISH: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

pub(crate) fn interrupt() {
    WISH.cancel();
}

/// Fails once the user wants to end.
pub(crate) fn check_interrupt() -> Result<()> {
    ensure!(!WISH.is_cancelled(), "interrupted");
    Ok(())
}

/// Sleeps for `time`, or fails as soon as the user wants to end.
pub(crate) fn sleep(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        check_interrupt()?;
        std::thread::sleep(left.min(NAP));
    }
    check_interrupt()
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

/// The number of open files that this program and the measured one need besides connections.
const OTHERS: usize = 200;

/// Fails when `connections` would exceed the limit of open files. `what` names the connections in
/// the error.
pub(crate) fn ensure_open_files(connections: usize, what: &str, advice: &str) -> Result<()> {
    let (need, allowed) = (connections + OTHERS, raise_limit());
    ensure!(allowed >= need, "{what} need {need} open files (`ulimit -Hn` is {allowed}): {advice}");
    Ok(())
}

/// Replaces each `{name}` with its value. Other braces stay as they are.
pub(crate) fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}
