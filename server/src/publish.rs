//! What every way in shares: is the tag known, does the key fit, then into the log.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::auth::{Auth, Key, Protectable};
use crate::hub::Hub;
use crate::id::{Address, Id, IdKey, Tag};
use crate::log::{Appending, Entry, Log, Target};
use crate::protocol::{ErrorCode, Publish, Recipient, Refusal};

/// The parts that sockets and HTTP requests work on.
#[derive(Debug)]
pub struct Service {
    /// Who listens to what.
    pub hub: Arc<Hub>,
    /// The one order of what is published.
    pub log: Box<dyn Log>,
    /// Which pairs need a key.
    pub auth: Auth,
    /// Turns IDs into addresses.
    pub id_key: IdKey,
    /// The tags that the configuration declares; `None` if it declares none and any is fine.
    pub declared_tags: Option<HashSet<Tag>>,
}

impl Service {
    /// Whether anyone may use this tag.
    ///
    /// # Errors
    /// `bad_tag` where the configuration declares tags, but not this one.
    pub fn check_tag(&self, tag: &Tag) -> Result<(), Refusal> {
        match &self.declared_tags {
            Some(declared) if !declared.contains(tag) => Err(Refusal::new(
                ErrorCode::BadTag,
                "this server's configuration does not declare the tag".into(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether `action` on `tag` is open or one of `keys` fits.
    ///
    /// # Errors
    /// `denied`.
    pub fn authorise<'a>(
        &self,
        tag: &Tag,
        action: Protectable,
        keys: impl IntoIterator<Item = &'a Key>,
    ) -> Result<(), Refusal> {
        self.auth.check(tag, action, keys).map_err(|denied| {
            let name = action.name();
            let detail = match denied.key_given {
                true => format!("the key does not fit {name} on {tag}"),
                false => format!("{name} on {tag} needs its key"),
            };
            Refusal::new(ErrorCode::Denied, detail.into())
        })
    }

    /// Checks a message and appends it to the log.
    ///
    /// `otherwise` is the key to be tried if the message carries none: the request's Bearer token,
    /// or what the connection has remembered.
    ///
    /// # Errors
    /// `bad_tag`, `denied`. What the append itself comes to is the future's output.
    pub fn publish(&self, publish: Publish, otherwise: Option<&Key>) -> Result<Appending, Refusal> {
        self.check_tag(&publish.tag)?;
        self.authorise(&publish.tag, publish.action(), publish.key.as_ref().or(otherwise))?;
        let target = match &publish.to {
            Recipient::Everyone => Target::Everyone,
            Recipient::One(id) => Target::One(self.address(&publish.tag, id)),
        };
        let at = now_ms();
        Ok(self.log.append(Entry {
            target,
            message: publish.message,
            at,
            expires: publish
                .ttl
                .map(|ttl| at.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))),
            mid: publish.mid,
            tag: publish.tag,
        }))
    }

    /// Where messages for this ID go.
    #[must_use]
    pub fn address(&self, tag: &Tag, id: &Id) -> Address {
        self.id_key.address(tag, id)
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
