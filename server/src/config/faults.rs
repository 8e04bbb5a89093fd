//! The order in which faults are told.

use crate::error::Error;

/// Those of options first, then those of the configuration file from its top to its end, then those
/// of other files. A line that cannot be read is told of once: what was made of it may be wrong too.
pub(super) fn in_order(mut faults: Vec<Error>, unreadable: &[usize]) -> Vec<Error> {
    let line_of = |fault: &Error| match fault {
        Error::Config { line, .. } => *line,
        _ => None,
    };
    faults.sort_by_key(|fault| match fault {
        Error::Option { .. } => (0, 0),
        Error::Config { line, .. } => (1, line.unwrap_or(0)),
        _ => (2, 0),
    });
    // The sort keeps those of a line as they were found, what cannot be read before the rest.
    let mut told = None;
    faults.retain(|fault| {
        let line = line_of(fault).filter(|line| unreadable.contains(line));
        let again = line.is_some() && line == told;
        told = line;
        !again
    });
    faults
}
