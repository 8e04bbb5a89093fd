//! The settings that a reload may change: keys, declared tags and rate limits.

use std::collections::{BTreeSet, HashSet};

use crate::access::auth::Auth;
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

/// The most tags that a warning names.
const MOST: usize = 5;

impl Policy {
    /// Warns of actions that clients may perform without a key, because that may be a mistake.
    pub(crate) fn open_to_all(&self) -> Option<String> {
        let protected = self.auth.protected();
        if protected.is_empty() {
            return Some(
                "no key protects anything: everyone who can connect may send and broadcast on \
                 every tag; see --protect"
                    .into(),
            );
        }
        let declared = self.declared_tags.iter().flatten();
        let named: BTreeSet<&Tag> =
            protected.iter().map(|(tag, _)| tag).chain(declared.clone()).collect();
        let usable =
            |tag: &Tag| self.declared_tags.as_ref().is_none_or(|declared| declared.contains(tag));
        let [send, broadcast] = [Protectable::Send, Protectable::Broadcast].map(|action| {
            let open = |tag: &&&Tag| usable(tag) && !self.auth.is_protected(tag, action);
            let mut tags: Vec<String> =
                named.iter().filter(open).map(|tag| tag.to_string()).collect();
            let left_out = tags.len().saturating_sub(MOST);
            tags.truncate(MOST);
            if left_out > 0 {
                tags.push(format!("{left_out} more"));
            }
            if self.declared_tags.is_none() {
                tags.push("any tag that the configuration does not name".into());
            }
            tags
        });
        let on = |tags: &[String]| tags.join(", ");
        let what = match (&send[..], &broadcast[..]) {
            ([], []) => return None,
            (send, broadcast) if send == broadcast => format!("send and broadcast on {}", on(send)),
            (send, []) => format!("send on {}", on(send)),
            ([], broadcast) => format!("broadcast on {}", on(broadcast)),
            (send, broadcast) => {
                format!("send on {}; broadcast on {}", on(send), on(broadcast))
            }
        };
        let remedy = match self.declared_tags {
            Some(_) => "to prevent that, protect them with a key (--protect)",
            None => {
                "to prevent that, protect each tag and action with a key (--protect); to refuse \
                 all tags but your own, declare those as [tags.NAME] in the file of --config"
            }
        };
        Some(format!("everyone who can connect may {what}; {remedy}"))
    }
}
