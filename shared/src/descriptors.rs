//! The limit of open files. Every connection is an open file.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files as far as possible without privileges, and returns the new limit.
///
/// On most systems the soft limit is 1,024, because of programs that use select(2).
#[must_use]
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let mut raised = limit;
    raised.current = raised.maximum;
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_kept) => limit.current,
    };
    files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_limit();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert!(limit >= 256);
    }
}
