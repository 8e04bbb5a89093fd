//! The protected pairs and the tags that are declared.

use std::collections::HashSet;
use std::path::Path;

use super::file::TagTable;
use super::setting::Setting;
use super::{Config, Demo, Resolver};
use crate::access::auth::{Auth, Key, KeyHash, Protectable};
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::id::{Tag, random_hex};
use crate::secret_file;

/// Where the demo's administrator broadcasts to.
const DEMO_TAG: &str = "notifications";

/// `TAG:ACTION:KEYFILE`.
pub(super) fn protect(config: &mut Config, setting: &Setting) -> Result<(), Error> {
    let mut parts = setting.text.splitn(3, ':');
    let (Some(tag), Some(action), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        let form = "write TAG:ACTION:KEYFILE, as in news:broadcast:/etc/tocsin/news.key";
        return Err(setting.fault(form));
    };
    let tag = Tag::parse(tag).map_err(|error| setting.fault(&error.to_string()))?;
    let action =
        Protectable::from_name(action).ok_or_else(|| setting.fault(&not_protectable(action)))?;
    let hash = config.key_in(&setting.source.path(file))?;
    config.policy.auth.protect(tag, action, hash);
    Ok(())
}

impl Config {
    fn key_in(&mut self, file: &Path) -> Result<KeyHash, Error> {
        let line = secret_file::first_line("key file", file)?;
        if !KeyHash::is_one(&line) && file != Path::new("-") {
            self.warn(exposed("key", file));
        }
        KeyHash::parse(&line).map_err(|error| Error::Content {
            what: "key file",
            file: file.into(),
            reason: error.to_string(),
        })
    }

    /// A key that stands in the configuration itself. It is never repeated.
    fn key_of(&mut self, tag: &Tag, action: &Setting, key: &Setting) -> Result<KeyHash, Error> {
        if !KeyHash::is_one(&key.text) {
            self.warn(key.source.file().and_then(|file| exposed("keys", file)));
        }
        KeyHash::parse(&key.text).map_err(|error| {
            key.source.fault(format!("the key for {} on {tag}: {error}", action.text))
        })
    }
}

impl Resolver {
    /// The tags that are declared, with their keys.
    pub(super) fn tags(&mut self, tables: &[TagTable]) {
        let mut declared = HashSet::new();
        for table in tables {
            let Some(tag) = self.or(None, table.tag().map(Some)) else { continue };
            for (action, key) in &table.keys {
                let hash = self.config.key_of(&tag, action, key);
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
                    "the key for {} on {tag} means nothing: other tags are declared and this one is \
                     not, so it is refused; add [tags.{tag}]",
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

    /// Protects what the demo shows. One that is `running` stays as it is.
    pub(super) fn demo(&mut self, running: Option<Demo>) {
        let Demo { served, key } = running.unwrap_or(Demo { served: self.config.demo, key: None });
        if served {
            let key = demo_key(&mut self.config.policy.auth, key);
            self.config.demo_key = self.or(None, key);
        }
    }
}

impl TagTable {
    pub(super) fn tag(&self) -> Result<Tag, Error> {
        Tag::parse(&self.name.text).map_err(|error| self.name.fault(&error.to_string()))
    }
}

/// Protects what the demo shows with a key, as far as the configuration does not do so already.
/// The key is `given`, or a new one.
fn demo_key(auth: &mut Auth, given: Option<Key>) -> Result<Option<Key>, Error> {
    let Ok(tag) = Tag::parse(DEMO_TAG) else { return Ok(None) };
    let demo = [Protectable::Send, Protectable::Broadcast, Protectable::Drop];
    let open = demo.map(|action| (action, !auth.is_protected(&tag, action)));
    if open.iter().all(|(_, open)| !open) {
        return Ok(None);
    }
    let key = match given {
        Some(given) => given.reveal().into_owned(),
        None => random_hex::<32>().map_err(Error::no_randomness)?,
    };
    for (action, _) in open.into_iter().filter(|(_, open)| *open) {
        if let Ok(hash) = KeyHash::parse(&key) {
            auth.protect(tag.clone(), action, hash);
        }
    }
    Ok(Some(Key::given(&key)))
}

fn not_protectable(name: &str) -> String {
    format!("`{name}` cannot be protected; set, send, broadcast and drop can")
}
