//! Converts an entry to a row of the database, and back.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, Row, params};

use crate::entry::{AppendId, BadKind, Entry, EntryKind, StoredBody};
use crate::id::{Address, Tag};
use crate::protocol::Mid;

/// All columns, in the order of the parameters and of [`read`].
pub(super) const COLUMNS: &str =
    "seq, at, tag, kind, address, body, expires, mid, append_writer, append_number";

/// Inserts a row with all [`COLUMNS`].
pub(super) const INSERT: &str = "INSERT INTO entries (seq, at, tag, kind, address, body, expires, \
     mid, append_writer, append_number) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The error for missing entries.
pub(super) fn missing(first: u64, last: u64) -> rusqlite::Error {
    damaged(0, format!("entries {first} to {last} are missing"))
}

/// The error for a value that this program never writes.
pub(super) fn damaged(column: usize, reason: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, reason.into())
}

/// Inserts `entry` as number `seq`.
pub(super) fn insert(
    statement: &mut CachedStatement<'_>,
    seq: u64,
    entry: &Entry,
) -> rusqlite::Result<()> {
    let (kind, address, body) = entry.kind.to_parts();
    let mark: Vec<u8>;
    let body = match body {
        StoredBody::Empty => ValueRef::Null,
        StoredBody::Message(text) => ValueRef::Text(text.as_bytes()),
        StoredBody::Seqs(seqs) => {
            mark = seqs.iter().flat_map(|seq| seq.to_le_bytes()).collect();
            ValueRef::Blob(&mark)
        }
    };
    statement.execute(params![
        seq.cast_signed(),
        entry.at.cast_signed(),
        entry.tag.as_str(),
        kind,
        address.map(Address::to_bytes),
        Borrowed(body),
        entry.expires.map(u64::cast_signed),
        entry.mid.as_ref().map(Mid::as_str),
        entry.append.map(|append| append.writer.cast_signed()),
        entry.append.map(|append| append.number.cast_signed()),
    ])?;
    Ok(())
}

/// A borrowed value, so that a message is not copied on its way into the database.
struct Borrowed<'a>(ValueRef<'a>);

impl rusqlite::ToSql for Borrowed<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

/// Reads a row of [`COLUMNS`].
///
/// # Errors
/// An error of the database, also for a value that this program never writes. The error contains
/// the number of the entry but none of its content.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<(u64, Entry)> {
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    let damaged = |column, what| damaged(column, format!("{what} of entry {seq} is damaged"));
    let tag = row.get_ref(2)?.as_str().ok().and_then(|text| Tag::parse(text).ok());
    let address = match row.get_ref(4)? {
        ValueRef::Null => None,
        value => {
            let bytes = value.as_blob().ok().and_then(|bytes| bytes.try_into().ok());
            Some(Address::from_bytes(bytes.ok_or_else(|| damaged(4, "the address"))?))
        }
    };
    // The kind is one byte. A number that does not fit becomes `u8::MAX`, which no kind has.
    let kind = row.get::<_, i64>(3)?.try_into().unwrap_or(u8::MAX);
    let body = row.get_ref(5)?;
    let (text, bytes) = (|| body.as_str().ok(), || body.as_blob().ok());
    let kind = EntryKind::from_parts(kind, address, text, bytes).map_err(|bad| match bad {
        BadKind::Number => damaged(3, "the kind"),
        BadKind::Message => damaged(5, "the message"),
        BadKind::Mark => damaged(5, "the mark"),
    })?;
    let number =
        |column| row.get::<_, Option<i64>>(column).map(|number| number.map(i64::cast_unsigned));
    let append = number(8)?.zip(number(9)?);
    let entry = Entry {
        tag: tag.ok_or_else(|| damaged(2, "the tag"))?,
        kind,
        at: row.get::<_, i64>(1)?.cast_unsigned(),
        expires: number(6)?,
        mid: row.get::<_, Option<Box<str>>>(7)?.map(Mid::kept),
        append: append.map(|(writer, number)| AppendId { writer, number }),
    };
    Ok((seq, entry))
}
