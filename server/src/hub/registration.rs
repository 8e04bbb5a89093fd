//! A registration, as the hub and the shards name it.

use crate::id::{Address, Tag};

/// One connection listens on one tag, with or without an ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub tag: Tag,
    /// The address of the ID. `None` for an anonymous listener, which gets broadcasts only.
    pub address: Option<Address>,
}
