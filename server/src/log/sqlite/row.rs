//! An entry as a row of the database, and back.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, Row, params};

use crate::entry::{AppendId, Entry, EntryKind};
use crate::id::{Address, Tag};
use crate::protocol::Mark;
use crate::protocol::{Message, Mid};

/// Every column, in the order of the parameters and of [`read`].
pub(super) const COLUMNS: &str =
    "seq, at, tag, kind, address, body, expires, mid, append_writer, append_number";

/// Inserts a row of them.
pub(super) const INSERT: &str = "INSERT INTO entries (seq, at, tag, kind, address, body, expires, \
     mid, append_writer, append_number) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The values of `kind`.
mod kind {
    pub(super) const BROADCAST: i64 = 0;
    pub(super) const DIRECT: i64 = 1;
    /// The body is one seq.
    pub(super) const READ_UP_TO: i64 = 2;
    /// The body is a list of seqs.
    pub(super) const READ_ONLY: i64 = 3;
    pub(super) const DROP: i64 = 4;
}

/// A value that this program never writes. The error names the entry, and none of its content.
#[derive(Debug, thiserror::Error)]
enum Damaged {
    #[error("{what} of entry {seq} is damaged")]
    Part { seq: u64, what: &'static str },
    #[error("entries {first} to {last} are missing")]
    Missing { first: u64, last: u64 },
    #[error("{0} is damaged")]
    Meta(&'static str),
}

/// The error for a value of `meta`.
pub(super) fn damaged_meta(name: &'static str) -> rusqlite::Error {
    damaged(0, Damaged::Meta(name))
}

/// The error for a gap.
pub(super) fn missing(first: u64, last: u64) -> rusqlite::Error {
    damaged(0, Damaged::Missing { first, last })
}

fn damaged(column: usize, what: Damaged) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, Box::new(what))
}

/// The same bits as a signed number, since SQLite has no unsigned ones. Seqs and times never get so
/// large that it matters.
pub(super) fn stored(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn kept(number: i64) -> u64 {
    number.cast_unsigned()
}

/// Inserts `entry` as number `seq`.
pub(super) fn insert(
    statement: &mut CachedStatement<'_>,
    seq: u64,
    entry: &Entry,
) -> rusqlite::Result<()> {
    let (kind, address, message, mark) = match &entry.kind {
        EntryKind::Broadcast(message) => (kind::BROADCAST, None, Some(message), None),
        EntryKind::Direct(address, message) => (kind::DIRECT, Some(address), Some(message), None),
        EntryKind::Read(address, Mark::UpTo(seq)) => {
            (kind::READ_UP_TO, Some(address), None, Some(seq.to_le_bytes().to_vec()))
        }
        EntryKind::Read(address, Mark::Only(seqs)) => {
            let bytes = seqs.iter().flat_map(|seq| seq.to_le_bytes()).collect();
            (kind::READ_ONLY, Some(address), None, Some(bytes))
        }
        EntryKind::Drop(address) => (kind::DROP, Some(address), None, None),
    };
    let body = match (message, &mark) {
        (Some(message), _) => ValueRef::Text(message.as_json().as_bytes()),
        (None, Some(mark)) => ValueRef::Blob(mark),
        (None, None) => ValueRef::Null,
    };
    statement.execute(params![
        stored(seq),
        stored(entry.at),
        entry.tag.as_str(),
        kind,
        address.map(|address| address.to_bytes()),
        Borrowed(body),
        entry.expires.map(stored),
        entry.mid.as_ref().map(Mid::as_str),
        entry.append.map(|append| stored(append.writer)),
        entry.append.map(|append| stored(append.number)),
    ])?;
    Ok(())
}

/// A borrowed value: messages are not copied on their way into the database.
struct Borrowed<'a>(ValueRef<'a>);

impl rusqlite::ToSql for Borrowed<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

/// Reads a row of [`COLUMNS`].
///
/// # Errors
/// Also for a value that this program never writes. The error names the entry, and none of its content.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<(u64, Entry)> {
    let seq = kept(row.get(0)?);
    let damaged = |column, what| damaged(column, Damaged::Part { seq, what });
    let tag = row.get_ref(2)?.as_str().ok().and_then(|text| Tag::parse(text).ok());
    let address = match row.get_ref(4)? {
        ValueRef::Null => None,
        value => {
            let bytes = value.as_blob().ok().and_then(|bytes| bytes.try_into().ok());
            Some(Address::from_bytes(bytes.ok_or_else(|| damaged(4, "the address"))?))
        }
    };
    let message = || {
        let text = row.get_ref(5)?.as_str().map_err(|_| damaged(5, "the message"))?;
        Ok::<_, rusqlite::Error>(Message::kept(text.into()))
    };
    let seqs = || {
        let bytes = row.get_ref(5)?.as_blob().map_err(|_| damaged(5, "the mark"))?;
        let (seqs, []) = bytes.as_chunks() else { return Err(damaged(5, "the mark")) };
        Ok(seqs.iter().map(|seq| u64::from_le_bytes(*seq)).collect::<Box<[u64]>>())
    };
    let kind = match (row.get(3)?, address) {
        (kind::BROADCAST, None) => EntryKind::Broadcast(message()?),
        (kind::DIRECT, Some(address)) => EntryKind::Direct(address, message()?),
        (kind::READ_UP_TO, Some(address)) => match *seqs()? {
            [seq] => EntryKind::Read(address, Mark::UpTo(seq)),
            _ => return Err(damaged(5, "the mark")),
        },
        (kind::READ_ONLY, Some(address)) => EntryKind::Read(address, Mark::Only(seqs()?)),
        (kind::DROP, Some(address)) => EntryKind::Drop(address),
        _ => return Err(damaged(3, "the kind")),
    };
    let append = match (row.get::<_, Option<i64>>(8)?, row.get::<_, Option<i64>>(9)?) {
        (Some(writer), Some(number)) => {
            Some(AppendId { writer: kept(writer), number: kept(number) })
        }
        _ => None,
    };
    let entry = Entry {
        tag: tag.ok_or_else(|| damaged(2, "the tag"))?,
        kind,
        at: kept(row.get(1)?),
        expires: row.get::<_, Option<i64>>(6)?.map(kept),
        mid: row.get::<_, Option<Box<str>>>(7)?.map(Mid::kept),
        append,
    };
    Ok((seq, entry))
}
