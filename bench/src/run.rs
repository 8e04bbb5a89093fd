//! What every command needs to know of its process.

use anyhow::{Result, ensure};

use crate::interrupt::Interrupt;

/// Open files that this program and the one that is measured need besides those for connections.
pub(crate) const OTHER_FILES: usize = 200;

pub(crate) struct Run {
    /// The limit of open files.
    pub(crate) open_files: usize,
    pub(crate) interrupt: Interrupt,
}

impl Run {
    /// Fails when `what` needs more open files than are allowed.
    pub(crate) fn ensure_files(&self, needed: usize, what: &str, advice: &str) -> Result<()> {
        ensure!(
            self.open_files >= needed,
            "{what} need {needed} open files, {} are allowed: raise `ulimit -Hn`, or {advice}",
            self.open_files
        );
        Ok(())
    }
}
