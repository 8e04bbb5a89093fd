//! A registration, as hub and shards name it.

use crate::id::{Address, Tag};

/// One connection listens on one tag, perhaps under an ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub tag: Tag,
    /// `None` for an anonymous listener, which gets broadcasts only.
    pub address: Option<Address>,
}
