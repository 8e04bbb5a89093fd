//! Servers of notifications that this program can start: ours, and what it is compared with.

pub(crate) mod floor;
pub(crate) mod start;
pub(crate) mod subject;
