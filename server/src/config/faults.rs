//! Sorts the faults of a configuration for the report.

use crate::error::Error;

/// Sorts the faults: options first, then the configuration file from top to end, then other files.
/// Of a line that is not TOML only the first fault is kept, because the others may be consequences.
pub(super) fn in_order(mut faults: Vec<Error>, unreadable: &[usize]) -> Vec<Error> {
    // The sort is stable, so faults of one line stay in the order in which they were found. Syntax
    // faults come first.
    faults.sort_by_key(|fault| match fault {
        Error::Option { .. } => (0, 0),
        Error::Config { line, .. } => (1, line.unwrap_or(0)),
        _ => (2, 0),
    });
    let line = |fault: &Error| match fault {
        Error::Config { line, .. } => line.filter(|line| unreadable.contains(line)),
        _ => None,
    };
    faults.dedup_by(|next, first| line(next).is_some() && line(next) == line(first));
    faults
}
