//! The tags that the configuration file declares, with their keys.

use std::collections::HashSet;

use super::Resolver;
use super::file::TagTable;
use super::keys::not_protectable;
use super::setting::Setting;
use crate::access::auth::KeyHash;
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
            declared.insert(tag);
        }
        if tables.is_empty() {
            return;
        }
        for (tag, action) in self.config.policy.auth.protected() {
            if !declared.contains(&tag) {
                self.config.warn(Some(format!(
                    "the key for {} on {tag} has no effect: the configuration declares other tags, \
                     but not this one, so the server refuses it; add [tags.{tag}]",
                    action.name()
                )));
            }
        }
        self.config.policy.declared_tags = Some(declared);
    }

    fn protect(&mut self, tag: &Tag, action: &Setting, hash: Result<KeyHash, Error>) {
        let protectable = Protectable::from_name(&action.text)
            .ok_or_else(|| action.source.fault(not_protectable(&action.text)));
        match protectable.and_then(|action| Ok((action, hash?))) {
            Ok((action, hash)) => self.config.policy.auth.protect(tag.clone(), action, hash),
            Err(fault) => self.faults.push(fault),
        }
    }
}

impl TagTable {
    pub(super) fn tag(&self) -> Result<Tag, Error> {
        Tag::parse(&self.name.text).map_err(|error| self.name.fault(error))
    }
}
