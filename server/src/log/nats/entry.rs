//! Converts an entry to a message of the stream, and back.
//!
//! The subject of the message contains the tag in base64url, because a tag such as `a..b` is no
//! valid subject. The payload contains everything else, with numbers in little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 1 | the version of this format |
//! | 1 | the kind of the entry |
//! | 1 | flags for the optional parts that follow |
//! | 8, 8, 8 | the time; the number of the appending server; the number of its append |
//! | 32 | the address, optional |
//! | 8 | the time of expiry, optional |
//! | 2 + n | the `mid`, optional |
//! | rest | the message, or the seqs of a read mark |

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf as _, BufMut as _, Bytes};

use crate::entry::{AppendId, Entry, EntryKind, StoredBody};
use crate::id::{Address, Tag};
use crate::protocol::Mid;

/// The version of the format that is written. Readers understand this version and earlier ones.
const VERSION: u8 = 1;

/// The flags for the optional parts of a payload.
mod part {
    pub(super) const ADDRESS: u8 = 1;
    pub(super) const EXPIRES: u8 = 2;
    pub(super) const MID: u8 = 4;
}

/// The reason why a message of the stream is not a valid entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadEntry {
    /// The entry has a later format. It must not be skipped, because its effect would be lost.
    #[error("it was written by a newer server")]
    Newer,
    #[error("no server has written it")]
    Foreign,
}

/// The last part of the subject, which encodes the tag.
pub(super) fn token(tag: &Tag) -> String {
    URL_SAFE_NO_PAD.encode(tag.as_str())
}

/// Encodes the payload of `entry`. `id` identifies its append.
pub(super) fn encode(entry: &Entry, id: AppendId) -> Bytes {
    let (kind, address, body) = entry.kind.to_parts();
    let mut bytes = Vec::with_capacity(entry.size());
    let with = |part, there| if there { part } else { 0 };
    bytes.put_u8(VERSION);
    bytes.put_u8(kind);
    bytes.put_u8(
        with(part::ADDRESS, address.is_some())
            | with(part::EXPIRES, entry.expires.is_some())
            | with(part::MID, entry.mid.is_some()),
    );
    bytes.put_u64_le(entry.at);
    bytes.put_u64_le(id.writer);
    bytes.put_u64_le(id.number);
    if let Some(address) = address {
        bytes.put_slice(&address.to_bytes());
    }
    if let Some(expires) = entry.expires {
        bytes.put_u64_le(expires);
    }
    if let Some(mid) = &entry.mid {
        // A `mid` has at most 128 characters, so its length in bytes fits in 16 bits.
        bytes.put_u16_le(u16::try_from(mid.as_str().len()).unwrap_or(u16::MAX));
        bytes.put_slice(mid.as_str().as_bytes());
    }
    match body {
        StoredBody::Empty => {}
        StoredBody::Message(text) => bytes.put_slice(text.as_bytes()),
        StoredBody::Seqs(seqs) => seqs.iter().for_each(|seq| bytes.put_u64_le(*seq)),
    }
    bytes.into()
}

/// Decodes the entry from the subject and the payload of a message.
pub(super) fn decode_of(subject: &str, payload: &[u8]) -> Result<Entry, BadEntry> {
    decode(subject.rsplit('.').next().unwrap_or_default(), payload)
}

/// Decodes the entry from the last part of the subject and the payload.
fn decode(token: &str, payload: &[u8]) -> Result<Entry, BadEntry> {
    match payload.first() {
        Some(&VERSION) => {}
        Some(version) if *version > VERSION => return Err(BadEntry::Newer),
        _ => return Err(BadEntry::Foreign),
    }
    read(token, &payload[1..]).ok_or(BadEntry::Foreign)
}

fn read(token: &str, mut rest: &[u8]) -> Option<Entry> {
    let tag = URL_SAFE_NO_PAD.decode(token).ok()?;
    let tag = Tag::parse(std::str::from_utf8(&tag).ok()?).ok()?;
    let rest = &mut rest;
    let (kind, parts) = (rest.try_get_u8().ok()?, rest.try_get_u8().ok()?);
    let at = rest.try_get_u64_le().ok()?;
    let writer = rest.try_get_u64_le().ok()?;
    let number = rest.try_get_u64_le().ok()?;
    let has = |part| parts & part != 0;
    let address = match has(part::ADDRESS) {
        true => Some(Address::from_bytes(*rest.split_off(..32)?.as_array()?)),
        false => None,
    };
    let expires = if has(part::EXPIRES) { Some(rest.try_get_u64_le().ok()?) } else { None };
    let mid = match has(part::MID) {
        true => {
            let length = usize::from(rest.try_get_u16_le().ok()?);
            let text = rest.split_off(..length)?;
            Some(Mid::kept(std::str::from_utf8(text).ok()?.into()))
        }
        false => None,
    };
    let text = || std::str::from_utf8(rest).ok();
    let kind = EntryKind::from_parts(kind, address, text, || Some(rest)).ok()?;
    let append = Some(AppendId { writer, number });
    Some(Entry { tag, kind, at, expires, mid, append })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Mark, Message};

    fn entries() -> Vec<Entry> {
        let address = Address::from_bytes([7; 32]);
        let message = || Message::kept(r#"{"text":"\u00e4"}"#.into());
        let bodies = [
            EntryKind::Broadcast(message()),
            EntryKind::Direct(address, message()),
            EntryKind::Read(address, Mark::UpTo(u64::MAX)),
            EntryKind::Read(address, Mark::Only([1, 2, 1 << 40].into())),
            EntryKind::Drop(address),
        ];
        let mut entries = Vec::new();
        for (number, body) in (1..).zip(bodies) {
            for (mid, expires) in [(None, None), (Some("order-77 \u{e4}"), Some(9))] {
                entries.push(Entry {
                    tag: Tag::parse("a..b").unwrap(),
                    kind: body.clone(),
                    at: 1_790_000_000_123,
                    expires,
                    mid: mid.map(|mid| Mid::kept(mid.into())),
                    append: Some(AppendId { writer: u64::MAX, number }),
                });
            }
        }
        entries
    }

    #[test]
    fn what_is_written_is_read() {
        for entry in entries() {
            let token = token(&entry.tag);
            assert!(
                token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
            let payload = encode(&entry, entry.append.unwrap());
            assert_eq!(decode(&token, &payload), Ok(entry));
        }
    }

    #[test]
    fn what_no_server_has_written_is_no_entry() {
        for entry in entries() {
            let token = token(&entry.tag);
            let payload = encode(&entry, entry.append.unwrap());
            for length in 0..payload.len() {
                // A truncated payload may still decode, because the JSON of the message is not
                // parsed.
                let _ = decode(&token, &payload[..length]);
            }
            assert_eq!(decode("not base64!", &payload), Err(BadEntry::Foreign));
            let newer = [&[VERSION + 1], &payload[1..]].concat();
            assert_eq!(decode(&token, &newer), Err(BadEntry::Newer));
        }
        for payload in [&b""[..], b"\0", b"\x01", b"{\"hello\":1}", &[1, 9, 0], &[1; 40]] {
            assert!(decode("c2hvcA", payload).is_err(), "{payload:?}");
        }
    }
}
