//! The OpenMetrics text of an admin port.

use std::collections::HashMap;

/// The samples of `/metrics` by their whole names, labels included.
///
/// # Panics
/// When the text is not complete, or a value is no number.
pub fn samples(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}
