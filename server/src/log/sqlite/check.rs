//! Checks a data directory without changing it, also while a server runs on it.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::id_key_check::check_id_key;
use super::{dir, meta, row, schema};
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::id::IdKey;

/// How many faults are named at most.
const MAX_FAULTS: usize = 5;

/// The content of an undamaged data directory.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// The log's file.
    pub file: PathBuf,
    /// The process number of the server that runs on it; empty if that is unknown.
    pub in_use: Option<String>,
    /// The file's schema version, and this program's.
    pub schema: (usize, usize),
    /// The epoch of the log.
    pub epoch: Option<String>,
    /// The fingerprint of the id key that the addresses were made with.
    pub id_key: Option<String>,
    /// A warning if other users can read the log.
    pub exposed: Option<String>,
    /// How many entries there are.
    pub entries: u64,
    /// The first one's number and time.
    pub first: Option<(u64, u64)>,
    /// The last one's number and time.
    pub last: Option<(u64, u64)>,
    /// Bytes of the database file.
    pub size: u64,
    /// How many of them are free for further entries.
    pub free: u64,
    /// Bytes of the write-ahead log beside it.
    pub wal: u64,
}

/// Reads the whole log in a data directory, and its id key there or in `id_key_file`. `None` if there
/// is no log yet, but one can be made.
///
/// # Errors
/// [`Error::Write`] if the directory could not be made;
/// [`Error::Content`] names what is damaged or missing; [`Error::Database`] if it cannot be read.
pub(crate) fn check(path: &Path, id_key_file: Option<&Path>) -> Result<Option<Checked>, Error> {
    if !dir::database(path).exists() {
        dir::could_be_made(path)?;
    }
    let own = path.join(dir::ID_KEY);
    let id_key_file = id_key_file.unwrap_or(&own);
    let id_key = IdKey::load(id_key_file)?;
    let file = dir::database(path);
    let metadata = match fs::metadata(&file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { what: "log", file, source }),
    };
    let in_use = dir::user_of(path);
    let unreadable =
        |source| Error::Database { file: file.clone(), what: "cannot be read", source };
    let connection = schema::connect_to_read(&file).map_err(unreadable)?;
    let version = match schema::version(&connection, &file, schema::STEPS.len()) {
        Err(Error::Database { source, .. }) if half_made(&source) => return Ok(None),
        version => version?,
    };
    let mut checked = Checked {
        file: file.clone(),
        in_use,
        schema: (version, schema::STEPS.len()),
        exposed: exposed("log", &file),
        size: metadata.len(),
        wal: fs::metadata(file.with_extension("sqlite3-wal")).map_or(0, |wal| wal.len()),
        ..Checked::default()
    };
    // One snapshot, whatever a server writes meanwhile.
    connection.execute_batch("BEGIN").map_err(unreadable)?;
    let faults = integrity(&connection).map_err(unreadable)?;
    if !faults.is_empty() {
        let reason = format!(
            "damaged: {}; restore a backup, or move the data directory away to begin anew",
            faults.join("; ")
        );
        return Err(Error::Content { what: "log", file, reason });
    }
    // An older file may lack columns. The next start migrates it.
    if version == schema::STEPS.len() {
        entries(&connection, &mut checked).map_err(unreadable)?;
        let earlier = checked.id_key.as_deref().filter(|_| checked.entries > 0);
        check_id_key(earlier, id_key.as_ref(), id_key_file)?;
    }
    Ok(Some(checked))
}

/// Whether the first start ended before it had made the log. The next start rolls that back; until
/// then SQLite cannot read the file without writing to it.
fn half_made(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::SQLITE_READONLY_ROLLBACK;
    error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_READONLY_ROLLBACK)
}

fn integrity(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MAX_FAULTS})"))?;
    let mut faults: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    faults.retain(|fault| fault != "ok");
    Ok(faults)
}

fn entries(connection: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    checked.epoch = meta::get(connection, meta::EPOCH)?;
    checked.id_key = meta::get(connection, meta::ID_KEY)?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    checked.free = (pragma("freelist_count")? * pragma("page_size")?).cast_unsigned();
    let mut before = meta::trimmed_through(connection)?;
    let sql = format!("SELECT {} FROM entries ORDER BY seq", row::COLUMNS);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (seq, entry) = row::read(row)?;
        if seq != before + 1 {
            return Err(row::missing(before + 1, seq - 1));
        }
        before = seq;
        checked.entries += 1;
        checked.first.get_or_insert((seq, entry.at));
        checked.last = Some((seq, entry.at));
    }
    Ok(())
}
