//! Who may do what: keys in a file, in the configuration or made for the demo, and what is open.

use std::path::Path;

use super::setting::Setting;
use super::{Config, Demo};
use crate::access::auth::{Contradiction, KeyHash, Scope};
use crate::error::Error;
use crate::file_permissions::{exposed, require_regular};
use crate::hex::random_hex;
use crate::id::Tag;
use crate::protocol::{Key, Protectable};
use crate::secret_file;

/// The tag to which the administrator of the demo sends.
const DEMO_TAG: &str = "notifications";
/// The tag of the demo on which every visitor broadcasts.
const DEMO_CHAT: &str = "chat";
const DEMO_ACTIONS: [Protectable; 3] =
    [Protectable::Send, Protectable::Broadcast, Protectable::Drop];

/// Applies one value of `--protect`, which is `TAG:ACTION:KEYFILE`.
pub(super) fn protect(config: &mut Config, setting: &Setting) -> Result<(), Error> {
    let mut parts = setting.text.splitn(3, ':');
    let (Some(tag), Some(action), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        let form = "write TAG:ACTION:KEYFILE, as in news:broadcast:/etc/tocsin/news.key";
        return Err(setting.fault(form));
    };
    let scope = Scope::parse(tag).map_err(|error| setting.fault(error))?;
    let action =
        Protectable::from_name(action).ok_or_else(|| setting.fault(not_protectable(action)))?;
    let hash = config.key_in(&setting.source.path(file))?;
    config.policy.auth.protect(scope, action, hash).map_err(|error| setting.fault(error))
}

/// `--open`: `TAG:ACTION`.
pub(super) fn open(config: &mut Config, setting: &Setting) -> Result<(), Error> {
    let (tag, action) = setting
        .text
        .split_once(':')
        .ok_or_else(|| setting.fault("write TAG:ACTION, as in chat:broadcast"))?;
    let scope = Scope::parse(tag).map_err(|error| setting.fault(error))?;
    let action = openable(action).map_err(|reason| setting.fault(reason))?;
    config.policy.auth.open(scope, action).map_err(|error| setting.fault(error))
}

/// The action of this name, which everyone may be allowed.
pub(super) fn openable(action: &str) -> Result<Protectable, String> {
    match Protectable::from_name(action) {
        Some(Protectable::Drop) => {
            Err("`drop` always needs a key; give it one with --protect".into())
        }
        Some(action) => Ok(action),
        None => Err(format!("`{action}` cannot be opened; set, send and broadcast can")),
    }
}

pub(super) fn not_protectable(action: &str) -> String {
    format!("`{action}` cannot be protected; set, send, broadcast and drop can")
}

impl Config {
    pub(super) fn key_in(&mut self, file: &Path) -> Result<KeyHash, Error> {
        let what = "key file";
        if self.is_reloaded {
            require_regular(file).map_err(|source| Error::Read {
                what,
                file: file.into(),
                source,
            })?;
        }
        let line = secret_file::first_line(what, file)?;
        if !KeyHash::is_one(&line) && file != Path::new("-") {
            self.warn(exposed("key", file));
        }
        KeyHash::parse(&line).map_err(|error| Error::Content {
            what,
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

    /// Protects the demo's tag as far as the configuration has no rules for it, and every other tag if it
    /// gives no key. The key is that of the running demo, or else a new one. Every visitor may broadcast
    /// on the demo's chat.
    pub(super) fn protect_demo(&mut self, demo: Demo) -> Result<(), Error> {
        let (Ok(tag), Ok(chat)) = (Scope::parse(DEMO_TAG), Scope::parse(DEMO_CHAT)) else {
            return Ok(());
        };
        if !demo.served {
            return Ok(());
        }
        let auth = &mut self.policy.auth;
        let fault =
            |error: Contradiction| Error::Option { option: "demo", reason: error.to_string() };
        if !auth.has_rule(&chat, Protectable::Broadcast) {
            auth.open(chat, Protectable::Broadcast).map_err(fault)?;
        }
        let added = DEMO_ACTIONS.into_iter().filter(|action| !auth.has_rule(&tag, *action));
        let added: Vec<Protectable> = added.collect();
        if added.is_empty() && !self.makes_key {
            return Ok(());
        }
        let key = match demo.key {
            Some(key) => key.reveal().into_owned(),
            None => random_hex::<32>().map_err(Error::no_randomness)?,
        };
        if let Ok(hash) = KeyHash::parse(&key) {
            for action in added {
                auth.protect(tag.clone(), action, hash.clone()).map_err(fault)?;
            }
            if std::mem::take(&mut self.makes_key) {
                auth.permit_sending(&hash);
            }
        }
        self.demo_key = Some(Key::given(&key));
        Ok(())
    }
}
