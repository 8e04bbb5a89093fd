//! The protected pairs and the tags that are declared.

use std::collections::HashSet;
use std::path::Path;

use super::file::TagTable;
use super::setting::Setting;
use crate::access::auth::{Auth, KeyHash};
use crate::access::secret;
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::id::{Tag, random_hex};
use crate::protocol::{Key, Protectable};

/// Where the demo's administrator broadcasts to.
const DEMO_TAG: &str = "notifications";

impl super::Checking {
    pub(super) fn auth(
        &mut self,
        pairs: &[Setting],
        tables: &[TagTable],
    ) -> (Auth, Option<HashSet<Tag>>) {
        let mut auth = Auth::default();
        for setting in pairs {
            let protected = self.protect(&mut auth, setting);
            self.or((), protected);
        }
        let mut declared = HashSet::new();
        for table in tables {
            let Some(tag) = self.or(None, table.tag().map(Some)) else { continue };
            for (action, key) in &table.keys {
                // The key itself is never repeated.
                let hash = KeyHash::parse(&key.text).map_err(|error| {
                    key.source.fault(format!("the key for {} on {tag}: {error}", action.text))
                });
                if !KeyHash::is_one(&key.text) {
                    self.warn(key.source.file().and_then(|file| exposed("keys", file)));
                }
                let protected = protectable(action).and_then(|action| Ok((action, hash?)));
                let protected =
                    protected.map(|(action, hash)| auth.protect(tag.clone(), action, hash));
                self.or((), protected);
            }
            for (action, file) in &table.key_files {
                let hash = self.key_in(&file.source.path(&file.text));
                let protected = protectable(action).and_then(|action| Ok((action, hash?)));
                let protected =
                    protected.map(|(action, hash)| auth.protect(tag.clone(), action, hash));
                self.or((), protected);
            }
            declared.insert(tag);
        }
        let declared = (!tables.is_empty()).then_some(declared);
        for (tag, action) in auth.protected() {
            if declared.as_ref().is_some_and(|declared| !declared.contains(&tag)) {
                self.warn(Some(format!(
                    "the key for {} on {tag} means nothing: other tags are declared and this one is \
                     not, so it is refused; add [tags.{tag}]",
                    action.name()
                )));
            }
        }
        (auth, declared)
    }

    /// `TAG:ACTION:KEYFILE`.
    fn protect(&mut self, auth: &mut Auth, setting: &Setting) -> Result<(), Error> {
        let mut parts = setting.text.splitn(3, ':');
        let (Some(tag), Some(action), Some(file)) = (parts.next(), parts.next(), parts.next())
        else {
            let form = "write TAG:ACTION:KEYFILE, as in news:broadcast:/etc/tocsin/news.key";
            return Err(setting.fault(form));
        };
        let tag = Tag::parse(tag).map_err(|error| setting.fault(&error.to_string()))?;
        let action = Protectable::from_name(action)
            .ok_or_else(|| setting.fault(&not_protectable(action)))?;
        auth.protect(tag, action, self.key_in(&setting.source.path(file))?);
        Ok(())
    }

    fn key_in(&mut self, file: &Path) -> Result<KeyHash, Error> {
        let line = secret::first_line("key file", file)?;
        if !KeyHash::is_one(&line) && file != Path::new("-") {
            self.warn(exposed("key", file));
        }
        KeyHash::parse(&line).map_err(|error| Error::Content {
            what: "key file",
            file: file.into(),
            reason: error.to_string(),
        })
    }
}

impl TagTable {
    pub(super) fn tag(&self) -> Result<Tag, Error> {
        Tag::parse(&self.name.text).map_err(|error| self.name.fault(&error.to_string()))
    }
}

/// Protects what the demo shows with a key, as far as the configuration does not do so already.
/// The key is `given`, or a new one.
pub(super) fn demo_key(auth: &mut Auth, given: Option<Key>) -> Result<Option<Key>, Error> {
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

fn protectable(action: &Setting) -> Result<Protectable, Error> {
    Protectable::from_name(&action.text)
        .ok_or_else(|| action.source.fault(not_protectable(&action.text)))
}

fn not_protectable(name: &str) -> String {
    format!("`{name}` cannot be protected; set, send, broadcast and drop can")
}
