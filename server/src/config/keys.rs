//! The keys that protect actions: from key files, from the configuration file, or made for the
//! demo.

use std::path::Path;

use super::setting::Setting;
use super::{Config, Demo};
use crate::access::auth::KeyHash;
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::id::{Tag, random_hex};
use crate::protocol::{Key, Protectable};
use crate::secret_file;

/// The tag to which the administrator of the demo sends.
const DEMO_TAG: &str = "notifications";
const DEMO_ACTIONS: [Protectable; 3] =
    [Protectable::Send, Protectable::Broadcast, Protectable::Drop];

/// Applies one value of `--protect`, which is `TAG:ACTION:KEYFILE`.
pub(super) fn protect(config: &mut Config, setting: &Setting) -> Result<(), Error> {
    let mut parts = setting.text.splitn(3, ':');
    let (Some(tag), Some(action), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        let form = "write TAG:ACTION:KEYFILE, as in news:broadcast:/etc/tocsin/news.key";
        return Err(setting.fault(form));
    };
    let tag = Tag::parse(tag).map_err(|error| setting.fault(error))?;
    let action =
        Protectable::from_name(action).ok_or_else(|| setting.fault(not_protectable(action)))?;
    let hash = config.key_in(&setting.source.path(file))?;
    config.policy.auth.protect(tag, action, hash);
    Ok(())
}

pub(super) fn not_protectable(action: &str) -> String {
    format!("`{action}` cannot be protected; set, send, broadcast and drop can")
}

impl Config {
    pub(super) fn key_in(&mut self, file: &Path) -> Result<KeyHash, Error> {
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

    /// Parses a key, or its hash, that is written in the configuration file itself. Errors never
    /// repeat it.
    pub(super) fn inline_key(
        &mut self,
        tag: &Tag,
        action: &Setting,
        key: &Setting,
    ) -> Result<KeyHash, Error> {
        if !KeyHash::is_one(&key.text) {
            self.warn(key.source.file().and_then(|file| exposed("keys", file)));
        }
        KeyHash::parse(&key.text).map_err(|error| {
            key.source.fault(format!("the key for {} on {tag}: {error}", action.text))
        })
    }

    /// Protects the actions of the demo that the configuration leaves open. The key is that of the
    /// running demo, or else a new one.
    pub(super) fn protect_demo(&mut self, demo: Demo) -> Result<(), Error> {
        let Ok(tag) = Tag::parse(DEMO_TAG) else { return Ok(()) };
        let auth = &mut self.policy.auth;
        let open = DEMO_ACTIONS.into_iter().filter(|action| !auth.is_protected(&tag, *action));
        let open: Vec<Protectable> = open.collect();
        if !demo.served || open.is_empty() {
            return Ok(());
        }
        let key = match demo.key {
            Some(key) => key.reveal().into_owned(),
            None => random_hex::<32>().map_err(Error::no_randomness)?,
        };
        for action in open {
            if let Ok(hash) = KeyHash::parse(&key) {
                auth.protect(tag.clone(), action, hash);
            }
        }
        self.demo_key = Some(Key::given(&key));
        Ok(())
    }
}
