//! The keys that protect actions on tags, and the check of a given key.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::id::{Tag, from_hex, hex};
use crate::limits;
use crate::protocol::{Key, Protectable};

/// The SHA-256 of a configured key. Keys are long and random, so a fast hash is enough.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyHash([u8; 32]);

/// Why a text is not accepted as a configured key. The message never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    #[error("the key is empty; `server new-key` makes one")]
    Empty,
    #[error("the key has fewer than 20 characters; `server new-key` makes one")]
    Short,
    /// 512 bytes or more. Clients may give keys of at most 512 bytes.
    #[error("the key has more than 512 bytes; `server new-key` makes one")]
    Long,
    /// `sha256:` is not followed by 64 hex digits.
    #[error("after `sha256:` come 64 hex digits, as `server hash-key` prints them")]
    Hash,
}

impl KeyHash {
    /// The shortest key that may be configured, in bytes.
    pub(crate) const MIN_KEY: usize = 20;

    const PREFIX: &str = "sha256:";

    /// Whether the text of a configured key is a hash. A hash does not reveal its key.
    pub(crate) fn is_one(text: &str) -> bool {
        text.trim().starts_with(Self::PREFIX)
    }

    /// Parses a configured key: the key itself or `sha256:HEX`. White space at both ends is
    /// ignored.
    ///
    /// # Errors
    /// [`BadKey`].
    pub(crate) fn parse(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        if let Some(digits) = text.strip_prefix(Self::PREFIX) {
            return from_hex(digits).map(Self).ok_or(BadKey::Hash);
        }
        match text.len() {
            0 => Err(BadKey::Empty),
            1..Self::MIN_KEY => Err(BadKey::Short),
            limits::KEY.. => Err(BadKey::Long),
            _ => Ok(Self::of(text.as_bytes())),
        }
    }

    fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    fn fits(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, hex(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why an action is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// The action needs no key.
    Open,
    /// The right key was given.
    Key,
}

/// The error of an action that needs a key, if none of the given keys is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Whether any key was given.
    pub key_given: bool,
}

/// The protected pairs of tag and action, and their keys. A pair may have several keys, so that one
/// can be replaced without an outage.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    pairs: HashMap<(Tag, Protectable), Vec<KeyHash>>,
}

impl Auth {
    /// Adds a key to a pair.
    pub(crate) fn protect(&mut self, tag: Tag, action: Protectable, key: KeyHash) {
        self.pairs.entry((tag, action)).or_default().push(key);
    }

    /// Checks an `action` on a `tag`: either it needs no key, or one of the `given` keys is right.
    ///
    /// # Errors
    /// [`Denied`]. The comparison takes the same time for every key.
    pub(crate) fn check<'a>(
        &self,
        tag: &Tag,
        action: Protectable,
        given: impl IntoIterator<Item = &'a Key>,
    ) -> Result<Permit, Denied> {
        // Hashing takes time, so a given key is hashed only for a pair that is protected.
        if self.pairs.is_empty() {
            return Ok(Permit::Open);
        }
        let Some(keys) = self.pairs.get(&(tag.clone(), action)) else {
            return Ok(Permit::Open);
        };
        let mut key_given = false;
        for key in given {
            key_given |= !key.is_empty();
            let given = KeyHash::of(key.as_bytes());
            // No early exit: the time must not depend on the key.
            if keys.iter().fold(false, |fits, key| fits | key.fits(&given)) {
                return Ok(Permit::Key);
            }
        }
        Err(Denied { key_given })
    }

    pub(crate) fn is_protected(&self, tag: &Tag, action: Protectable) -> bool {
        self.pairs.contains_key(&(tag.clone(), action))
    }

    /// The protected pairs, sorted.
    pub(crate) fn protected(&self) -> Vec<(Tag, Protectable)> {
        let mut pairs: Vec<_> = self.pairs.keys().cloned().collect();
        pairs.sort();
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEND_KEY: &str = "a-key-of-enough-length-1";
    const OTHER_KEY: &str = "a-key-of-enough-length-2";

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    fn auth() -> Auth {
        let mut auth = Auth::default();
        auth.protect(tag("shop"), Protectable::Send, KeyHash::parse(SEND_KEY).unwrap());
        auth.protect(tag("shop"), Protectable::Broadcast, KeyHash::parse(OTHER_KEY).unwrap());
        auth
    }

    fn check(tag_name: &str, action: Protectable, keys: &[&str]) -> Result<Permit, Denied> {
        let keys: Vec<Key> = keys.iter().map(|key| Key::given(key)).collect();
        auth().check(&tag(tag_name), action, &keys)
    }

    #[test]
    fn only_its_own_key_opens_a_pair() {
        use Protectable::{Broadcast, Send, Set};
        assert_eq!(check("shop", Send, &[SEND_KEY]), Ok(Permit::Key));
        assert_eq!(check("shop", Send, &["wrong", SEND_KEY]), Ok(Permit::Key));
        assert_eq!(check("shop", Send, &[OTHER_KEY]), Err(Denied { key_given: true }));
        assert_eq!(check("shop", Broadcast, &[SEND_KEY]), Err(Denied { key_given: true }));
        assert_eq!(check("shop", Send, &[""]), Err(Denied { key_given: false }));
        assert_eq!(check("shop", Send, &[]), Err(Denied { key_given: false }));
        assert_eq!(check("shop", Set, &[]), Ok(Permit::Open));
        assert_eq!(check("blog", Send, &[]), Ok(Permit::Open));
    }

    #[test]
    fn a_hash_stands_for_its_key() {
        let hash = KeyHash::parse(SEND_KEY).unwrap().to_string();
        assert!(
            KeyHash::parse(&format!(" {hash}\n")).unwrap().fits(&KeyHash::of(SEND_KEY.as_bytes()))
        );
        assert_eq!(KeyHash::parse("sha256:beef"), Err(BadKey::Hash));
        assert_eq!(KeyHash::parse(&format!("sha256:{}", "x".repeat(64))), Err(BadKey::Hash));
        assert_eq!(KeyHash::parse("short"), Err(BadKey::Short));
        assert_eq!(KeyHash::parse(" \n"), Err(BadKey::Empty));
    }

    #[test]
    fn two_keys_may_overlap_while_one_is_replaced() {
        let mut auth = auth();
        auth.protect(tag("shop"), Protectable::Send, KeyHash::parse(OTHER_KEY).unwrap());
        for key in [SEND_KEY, OTHER_KEY] {
            assert_eq!(
                auth.check(&tag("shop"), Protectable::Send, [&Key::given(key)]),
                Ok(Permit::Key)
            );
        }
    }

    #[test]
    fn keys_print_as_stars() {
        let text = format!("{:?} {:?}", Key::given(SEND_KEY), KeyHash::parse(SEND_KEY).unwrap());
        assert_eq!(text, "*** ***");
    }
}
