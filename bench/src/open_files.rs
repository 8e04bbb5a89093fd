//! The limit of open files, of which each connection is one.

use anyhow::{Result, ensure};
use shared::descriptors::raise_limit;

/// Open files that this program and the one that is measured need besides those for connections.
pub(crate) const OTHERS: usize = 200;

/// Fails when `what` needs more open files than are allowed.
pub(crate) fn ensure(needed: usize, what: &str, advice: &str) -> Result<()> {
    let allowed = raise_limit();
    ensure!(
        allowed >= needed,
        "{what} need {needed} open files, {allowed} are allowed: raise `ulimit -Hn`, or {advice}"
    );
    Ok(())
}
