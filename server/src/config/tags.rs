//! The tags that the configuration file declares, with their keys.

use std::collections::HashSet;

use super::Resolver;
use super::file::TagTable;
use super::keys::{not_protectable, openable};
use super::setting::Setting;
use crate::access::auth::{KeyHash, Scope};
use crate::error::Error;
use crate::id::Tag;
use crate::protocol::Protectable;

impl Resolver {
    pub(super) fn tags(&mut self, tables: &[TagTable]) {
        let mut declared = HashSet::new();
        for table in tables {
            let Some(tag) = self.or(None, table.tag().map(Some)) else { continue };
            for (action, key) in &table.keys {
                let hash = self.config.inline_key(&tag, action, key);
                self.protect(&tag, action, hash);
            }
            for (action, file) in &table.key_files {
                let hash = self.config.key_in(&file.path());
                self.protect(&tag, action, hash);
            }
            for action in &table.open {
                let opened = openable(&action.text).and_then(|action| {
                    let auth = &mut self.config.policy.auth;
                    auth.open(Scope::One(tag.clone()), action).map_err(|error| error.to_string())
                });
                self.or((), opened.map_err(|reason| action.source.fault(reason)));
            }
            declared.insert(tag);
        }
        if tables.is_empty() {
            return;
        }
        let auth = &self.config.policy.auth;
        for pair in [auth.protected(), auth.opened()].concat() {
            if let Some(tag) = pair.scope.tag()
                && !declared.contains(tag)
            {
                self.config.warn(Some(format!(
                    "the rule for {} on {tag} has no effect: the configuration declares other tags, \
                     but not this one, so the server refuses it; add [tags.{tag}]",
                    pair.action.name()
                )));
            }
        }
        self.config.policy.declared_tags = Some(declared);
    }

    fn protect(&mut self, tag: &Tag, action: &Setting, hash: Result<KeyHash, Error>) {
        let protectable = Protectable::from_name(&action.text)
            .ok_or_else(|| action.source.fault(not_protectable(&action.text)));
        let protected = protectable.and_then(|protectable| {
            let auth = &mut self.config.policy.auth;
            auth.protect(Scope::One(tag.clone()), protectable, hash?)
                .map_err(|error| action.source.fault(error.to_string()))
        });
        self.or((), protected);
    }
}

impl TagTable {
    pub(super) fn tag(&self) -> Result<Tag, Error> {
        Tag::parse(&self.name.text).map_err(|error| self.name.fault(error))
    }
}
