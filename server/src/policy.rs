//! What may change while the server runs: keys, tags and limits.

use std::collections::HashSet;

use crate::auth::Auth;
use crate::id::Tag;
use crate::rates::Limits;

/// Who may do what, and how often.
#[derive(Debug, Default)]
pub struct Policy {
    /// Which pairs need a key.
    pub auth: Auth,
    /// The tags that the configuration declares; `None` if it declares none and any is fine.
    pub declared_tags: Option<HashSet<Tag>>,
    /// How often it may be done.
    pub limits: Limits,
}
