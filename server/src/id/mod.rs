//! Tags, IDs, and the addresses that the server computes from them.
//!
//! An ID is a bearer capability: whoever knows it can act as that person. So the server replaces it
//! by a hash, made with the ID key; the hub and the log never see the ID.

mod key;

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::hex::{hex, random_hex};

type HmacSha256 = Hmac<Sha256>;

/// A channel that clients listen on: 1 to 64 of the characters `A–Z a–z 0–9 . _ -`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// The error of a text that is not a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag is 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
pub struct BadTag;

impl Tag {
    /// The longest tag, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Parses a tag.
    ///
    /// # Errors
    /// [`BadTag`] if the text is empty, is longer than 64 characters, or contains a character that
    /// a tag may not contain.
    pub fn parse(text: &str) -> Result<Self, BadTag> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > Self::MAX_LENGTH || !text.bytes().all(allowed) {
            return Err(BadTag);
        }
        Ok(Self(text.into()))
    }

    /// The text, which needs no escaping in JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret ID of a person, as the client wrote it. `Debug` prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Id(Box<str>);

/// Why a text is not accepted as an ID. The message never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakId {
    /// The ID has fewer than 16 or more than 128 characters.
    #[error("an ID has 16 to 128 characters; `server new-id` makes one")]
    Length,
    /// The ID contains a character that is not printable ASCII.
    #[error("an ID is made of printable ASCII characters only")]
    NotPrintable,
    /// The ID consists of digits only. It may be a row number of a database, which can be guessed.
    #[error("an ID of digits only can be guessed; `server new-id` makes one that cannot")]
    DigitsOnly,
    /// The ID has fewer than 8 distinct characters.
    #[error("an ID needs at least 8 distinct characters; `server new-id` makes one")]
    FewDistinct,
}

impl Id {
    /// The shortest secret that IDs should be derived from, in bytes.
    pub const MIN_SECRET: usize = 16;

    /// Parses an ID.
    ///
    /// # Errors
    /// [`WeakId`], which names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, WeakId> {
        if !(16..=128).contains(&text.len()) {
            return Err(WeakId::Length);
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(WeakId::NotPrintable);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(WeakId::DigitsOnly);
        }
        // A bit for each ASCII character.
        let seen = text.bytes().fold(0u128, |seen, byte| seen | 1 << byte);
        if seen.count_ones() < 8 {
            return Err(WeakId::FewDistinct);
        }
        Ok(Self(text.into()))
    }

    /// Makes a new ID: 128 random bits as 32 hex digits.
    ///
    /// # Errors
    /// The error of the operating system, if it provides no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        // About one ID in 3 million is refused. Nearly always it consists of decimal digits only,
        // which has the probability (10/16)^32.
        loop {
            if let Ok(id) = Self::parse(&random_hex::<16>()?) {
                return Ok(id);
            }
        }
    }

    /// Derives the ID of a user, so that a site need not store it. The ID is the lower-case hex of
    /// HMAC-SHA-256(secret, user ‖ 0 ‖ decimal version). A new version gives a new ID.
    ///
    /// `Tocsin::id()` of the PHP client computes the same ID.
    pub fn derive(secret: &[u8], user: &str, version: u32) -> Self {
        let mut mac = keyed(secret);
        mac.update(user.as_bytes());
        mac.update(&[0]);
        mac.update(version.to_string().as_bytes());
        Self(hex(&mac.finalize().into_bytes()).into())
    }

    /// The text of the ID, to give it to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A tag and ID as the server stores them: HMAC-SHA-256(id key, tag ‖ 0 ‖ ID).
///
/// An ID has a different address under each tag. `Debug` prints `***`: an address is no secret, but
/// it would show which log lines concern the same person.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address([u8; 32]);

impl Address {
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The server's ID key, which turns IDs into addresses.
#[derive(Clone)]
pub(crate) struct IdKey(HmacSha256);

impl IdKey {
    /// A random key, for a log that does not outlive the process.
    ///
    /// # Errors
    /// The error of the operating system, if it provides no random numbers.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(keyed(&key)))
    }

    pub(crate) fn address(&self, tag: &Tag, id: &Id) -> Address {
        let mut mac = self.0.clone();
        mac.update(tag.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(id.0.as_bytes());
        Address(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn keyed(key: &[u8]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for good in ["a", "notifications", "shop-1.orders_EU", &"x".repeat(64)] {
            assert_eq!(Tag::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ä", "a\0", &"x".repeat(65)] {
            assert_eq!(Tag::parse(bad), Err(BadTag), "{bad:?}");
        }
    }

    #[test]
    fn ids() {
        assert!(Id::parse("5f3c9a7e21b04d86").is_ok());
        assert!(Id::parse(&"0123456789abcdef".repeat(8)).is_ok());
        assert_eq!(Id::parse("5f3c9a7e21b04d8"), Err(WeakId::Length));
        assert_eq!(Id::parse(&"5f3c9a7e21b04d86".repeat(9)), Err(WeakId::Length));
        assert_eq!(Id::parse("12345678901234567890"), Err(WeakId::DigitsOnly));
        assert_eq!(Id::parse("aaaabbbbccccdddd"), Err(WeakId::FewDistinct));
        assert_eq!(Id::parse("5f3c9a7e21b04d8\n"), Err(WeakId::NotPrintable));
        assert_eq!(Id::parse("5f3c9a7e21b04d8ä"), Err(WeakId::NotPrintable));
    }

    #[test]
    fn secrets_print_as_stars() {
        let id = Id::generate().unwrap();
        assert_eq!(format!("{id:?}"), "***");
        let key = IdKey::generate().unwrap();
        let tag = Tag::parse("t").unwrap();
        assert_eq!(format!("{key:?} {:?}", key.address(&tag, &id)), "*** ***");
    }

    #[test]
    fn an_id_under_two_tags_is_two_addresses() {
        let key = IdKey::generate().unwrap();
        let id = Id::generate().unwrap();
        let (a, b) = (Tag::parse("a").unwrap(), Tag::parse("b").unwrap());
        assert_eq!(key.address(&a, &id), key.address(&a, &id));
        assert_ne!(key.address(&a, &id), key.address(&b, &id));
    }

    #[test]
    fn a_derived_id_is_the_documented_hmac() {
        // The expected ID is the output of this command:
        // printf 'alice\0001' | openssl dgst -sha256 -hmac 'a secret of the site'
        assert_eq!(
            Id::derive(b"a secret of the site", "alice", 1).reveal(),
            "648b57787fadc12fd197cc8d7a89ac66c43999c1d217aa5efec2106d746bd819"
        );
        let other = Id::derive(b"a secret of the site", "alice", 2);
        assert_ne!(Id::derive(b"a secret of the site", "alice", 1), other);
    }
}
