//! Servers of notifications that this program can start: ours, and what it is compared with.

pub(crate) mod cases;
pub(crate) mod compare;
pub(crate) mod floor;
pub(crate) mod ours;
mod page;
pub(crate) mod probe;
pub(crate) mod start;
pub(crate) mod subject;
