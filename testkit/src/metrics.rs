//! Parses the OpenMetrics text of an admin port.

use std::collections::HashMap;

/// The samples in the text of `/metrics`. The keys are the full names with labels.
///
/// # Panics
/// If the text is incomplete, or if a value is not a number.
pub fn samples(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}
