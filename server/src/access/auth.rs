//! Who may perform which action on which tag: everyone, or whoever has the key.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::hex::{from_hex, hex};
use crate::id::{BadTag, Tag};
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
    /// Clients may give keys of at most 512 bytes.
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
            Self::MIN_KEY..=limits::KEY => Ok(Self::of(text.as_bytes())),
            _ => Err(BadKey::Long),
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
    /// Whether any key would be right.
    pub has_key: bool,
}

/// The tags that a rule applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Every tag that has no rule of its own for the action. Written `*`.
    Every,
    One(Tag),
}

impl Scope {
    /// Parses `*` or a tag.
    ///
    /// # Errors
    /// [`BadTag`].
    pub(crate) fn parse(text: &str) -> Result<Self, BadTag> {
        if text == "*" { Ok(Self::Every) } else { Tag::parse(text).map(Self::One) }
    }

    pub(crate) fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Every => None,
            Self::One(tag) => Some(tag),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag().map_or("*", Tag::as_str))
    }
}

/// An action on the tags of a scope. Written `TAG:ACTION`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Guarded {
    pub scope: Scope,
    pub action: Protectable,
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope, self.action.name())
    }
}

/// The configuration opens an action that has a key, or gives a key to one that it opens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is opened and has a key, too; remove one of the two")]
pub(crate) struct Contradiction(Guarded);

/// Who may perform an action.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Access {
    /// Everyone who can connect.
    Open,
    /// Whoever has one of these keys; without any, nobody. Several let one be replaced without an outage.
    Keys(Vec<KeyHash>),
}

impl Access {
    /// Without a rule, everyone may listen, and nobody may send or log anybody out.
    fn default_of(action: Protectable) -> &'static Self {
        match action {
            Protectable::Set => &Self::Open,
            Protectable::Send | Protectable::Broadcast | Protectable::Drop => {
                const { &Self::Keys(Vec::new()) }
            }
        }
    }
}

/// The rules of who may perform which action on which tag. The rule of a tag replaces that of all tags.
#[derive(Debug, Clone, Default)]
pub(crate) struct Auth {
    rules: HashMap<Guarded, Access>,
}

impl Auth {
    /// Adds a key that permits `action` on the tags of `scope`.
    ///
    /// # Errors
    /// [`Contradiction`] if the same action is open on the same tags.
    pub(crate) fn protect(
        &mut self,
        scope: Scope,
        action: Protectable,
        key: KeyHash,
    ) -> Result<(), Contradiction> {
        let pair = Guarded { scope, action };
        let rule = self.rules.entry(pair.clone());
        match rule.or_insert_with(|| Access::Keys(Vec::new())) {
            Access::Open => return Err(Contradiction(pair)),
            Access::Keys(keys) => keys.push(key),
        }
        Ok(())
    }

    /// Opens `action` on the tags of `scope` to everyone who can connect.
    ///
    /// # Errors
    /// [`Contradiction`] if the same action has a key on the same tags.
    pub(crate) fn open(&mut self, scope: Scope, action: Protectable) -> Result<(), Contradiction> {
        let pair = Guarded { scope, action };
        match self.rules.entry(pair.clone()).or_insert(Access::Open) {
            Access::Keys(_) => Err(Contradiction(pair)),
            Access::Open => Ok(()),
        }
    }

    /// Rules that open sending and broadcasting on every tag.
    #[cfg(test)]
    pub(crate) fn open_to_all() -> Self {
        let mut auth = Self::default();
        for action in [Protectable::Send, Protectable::Broadcast] {
            auth.open(Scope::Every, action).unwrap();
        }
        auth
    }

    /// Checks that `action` on `tag` is open, or that one of `given` is a right key.
    ///
    /// # Errors
    /// [`Denied`]. The comparison takes the same time for every key.
    pub(crate) fn check<'a>(
        &self,
        tag: &Tag,
        action: Protectable,
        given: impl IntoIterator<Item = &'a Key>,
    ) -> Result<Permit, Denied> {
        let keys = match self.access(&Scope::One(tag.clone()), action) {
            Access::Open => return Ok(Permit::Open),
            Access::Keys(keys) => keys,
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
        Err(Denied { key_given, has_key: !keys.is_empty() })
    }

    /// Whether everyone may perform `action`.
    pub(crate) fn is_open(&self, scope: &Scope, action: Protectable) -> bool {
        matches!(self.access(scope, action), Access::Open)
    }

    /// Whether a key permits `action`.
    pub(crate) fn has_key(&self, scope: &Scope, action: Protectable) -> bool {
        matches!(self.access(scope, action), Access::Keys(keys) if !keys.is_empty())
    }

    /// Whether no key permits sending or broadcasting, although not everyone may do both on every tag.
    pub(crate) fn lacks_key(&self) -> bool {
        use Protectable::{Broadcast, Send};
        let is_key = |(pair, access): (&Guarded, &Access)| {
            matches!(pair.action, Send | Broadcast) && matches!(access, Access::Keys(_))
        };
        let is_open = |action| self.is_open(&Scope::Every, action);
        let all_open = is_open(Send) && is_open(Broadcast);
        !all_open && !self.rules.iter().any(is_key)
    }

    /// Lets whoever has `key` send and broadcast on every tag that has no rule of its own.
    pub(crate) fn permit_sending(&mut self, key: &KeyHash) {
        for action in [Protectable::Send, Protectable::Broadcast] {
            let pair = Guarded { scope: Scope::Every, action };
            self.rules.entry(pair).or_insert_with(|| Access::Keys(vec![key.clone()]));
        }
    }

    /// Whether the configuration says anything about `action` on these tags.
    pub(crate) fn has_rule(&self, scope: &Scope, action: Protectable) -> bool {
        self.rules.contains_key(&Guarded { scope: scope.clone(), action })
    }

    fn access(&self, scope: &Scope, action: Protectable) -> &Access {
        let of = |scope| self.rules.get(&Guarded { scope, action });
        let rule = of(scope.clone()).or_else(|| of(Scope::Every));
        rule.unwrap_or(Access::default_of(action))
    }

    /// The actions that need a key, sorted.
    pub(crate) fn protected(&self) -> Vec<Guarded> {
        self.pairs(|access| matches!(access, Access::Keys(_)))
    }

    /// The actions that are opened, sorted. Listening is open without being one of them.
    pub(crate) fn opened(&self) -> Vec<Guarded> {
        self.pairs(|access| matches!(access, Access::Open))
    }

    fn pairs(&self, wanted: impl Fn(&Access) -> bool) -> Vec<Guarded> {
        let found = self.rules.iter().filter(|(_, access)| wanted(access));
        let mut pairs: Vec<_> = found.map(|(pair, _)| pair.clone()).collect();
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

    fn one(text: &str) -> Scope {
        Scope::parse(text).unwrap()
    }

    fn auth() -> Auth {
        let mut auth = Auth::default();
        auth.protect(one("shop"), Protectable::Send, KeyHash::parse(SEND_KEY).unwrap()).unwrap();
        auth.protect(one("shop"), Protectable::Broadcast, KeyHash::parse(OTHER_KEY).unwrap())
            .unwrap();
        auth
    }

    fn check(tag_name: &str, action: Protectable, keys: &[&str]) -> Result<Permit, Denied> {
        let keys: Vec<Key> = keys.iter().map(|key| Key::given(key)).collect();
        auth().check(&tag(tag_name), action, &keys)
    }

    #[test]
    fn only_its_own_key_opens_a_pair() {
        use Protectable::{Broadcast, Drop, Send, Set};
        let denied = |key_given, has_key| Err(Denied { key_given, has_key });
        assert_eq!(check("shop", Send, &[SEND_KEY]), Ok(Permit::Key));
        assert_eq!(check("shop", Send, &["wrong", SEND_KEY]), Ok(Permit::Key));
        assert_eq!(check("shop", Send, &[OTHER_KEY]), denied(true, true));
        assert_eq!(check("shop", Broadcast, &[SEND_KEY]), denied(true, true));
        assert_eq!(check("shop", Send, &[""]), denied(false, true));
        assert_eq!(check("shop", Send, &[]), denied(false, true));
        assert_eq!(check("shop", Set, &[]), Ok(Permit::Open));
        for action in [Send, Broadcast, Drop] {
            assert_eq!(check("blog", action, &[]), denied(false, false));
            assert_eq!(check("blog", action, &[SEND_KEY]), denied(true, false));
        }
    }

    #[test]
    fn the_rule_of_a_tag_replaces_that_of_all_tags() {
        use Protectable::{Broadcast, Send};
        let mut auth = auth();
        let key = || KeyHash::parse(OTHER_KEY).unwrap();
        auth.open(Scope::Every, Broadcast).unwrap();
        auth.protect(Scope::Every, Send, key()).unwrap();
        auth.open(one("chat"), Send).unwrap();
        let check = |name, action, key| auth.check(&tag(name), action, [&Key::given(key)]);
        assert_eq!(check("blog", Broadcast, ""), Ok(Permit::Open));
        assert_eq!(check("blog", Send, OTHER_KEY), Ok(Permit::Key));
        assert_eq!(check("chat", Send, ""), Ok(Permit::Open));
        assert_eq!(check("shop", Send, OTHER_KEY), Err(Denied { key_given: true, has_key: true }));
        assert_eq!(check("shop", Broadcast, ""), Err(Denied { key_given: false, has_key: true }));
        assert_eq!(
            auth.protect(one("chat"), Send, key()),
            Err(Contradiction(Guarded { scope: one("chat"), action: Send }))
        );
        let contradiction = auth.open(Scope::Every, Send).unwrap_err().to_string();
        assert_eq!(contradiction, "*:send is opened and has a key, too; remove one of the two");
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
        assert!(KeyHash::parse(&"k".repeat(limits::KEY)).is_ok());
        assert_eq!(KeyHash::parse(&"k".repeat(limits::KEY + 1)), Err(BadKey::Long));
    }

    #[test]
    fn two_keys_may_overlap_while_one_is_replaced() {
        let mut auth = auth();
        auth.protect(one("shop"), Protectable::Send, KeyHash::parse(OTHER_KEY).unwrap()).unwrap();
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
