//! The settings that a reload may change: keys, declared tags and rate limits.

use std::collections::{BTreeSet, HashSet};

use crate::access::auth::{Auth, Scope};
use crate::access::rate_limit::Limits;
use crate::id::Tag;
use crate::protocol::Protectable;

/// The keys, the declared tags and the rate limits.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub auth: Auth,
    /// The tags that the configuration declares. `None` if it declares none; then every tag is
    /// permitted.
    pub declared_tags: Option<HashSet<Tag>>,
    pub limits: Limits,
}

/// The most pairs that a warning names.
const MOST: usize = 5;

impl Policy {
    /// What `new` takes away that keeps listeners out: keys for `set`, unless `new` opens it by name, and
    /// declared tags. An emptied or truncated configuration would do so.
    pub(crate) fn guards_missing_in(&self, new: &Self) -> Vec<String> {
        let keys = self.auth.protected().into_iter().filter(|pair| {
            let opened = new.auth.opened().contains(pair);
            pair.action == Protectable::Set
                && !new.auth.has_key(&pair.scope, pair.action)
                && !opened
        });
        let kept = |tag: &Tag| new.declared_tags.as_ref().is_some_and(|tags| tags.contains(tag));
        let tags = self.declared_tags.iter().flatten().filter(|tag| !kept(tag));
        let tags: BTreeSet<&Tag> = tags.collect();
        let tags = tags.into_iter().map(|tag| format!("[tags.{tag}]"));
        keys.map(|pair| format!("the key for {pair}")).chain(tags).collect()
    }

    /// The warning about declared tags that nobody can send or broadcast on, for lack of a key.
    pub(crate) fn closed_to_all(&self) -> Option<String> {
        let mut pairs = Vec::new();
        for tag in self.declared_tags.iter().flatten().collect::<BTreeSet<_>>() {
            let scope = Scope::One(tag.clone());
            for action in [Protectable::Send, Protectable::Broadcast] {
                if !self.auth.is_open(&scope, action) && !self.auth.has_key(&scope, action) {
                    pairs.push(format!("{} on {tag}", action.name()));
                }
            }
        }
        let left_out = pairs.len().saturating_sub(MOST);
        pairs.truncate(MOST);
        if left_out > 0 {
            pairs.push(format!("{left_out} more"));
        }
        (!pairs.is_empty()).then(|| {
            format!(
                "nobody can use {}: no key permits it; add one (--protect), or open it to everyone \
                 (--open)",
                pairs.join(", ")
            )
        })
    }
}
