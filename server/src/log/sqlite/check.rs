//! Checks a data directory without changing it. A server may run on it at the same time.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::id_key_check::check_id_key;
use super::{dir, meta, row, schema};
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::id::IdKey;

/// How many faults an error lists at most.
const MAX_FAULTS: usize = 5;

/// A summary of an undamaged data directory.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// The path of the log's database file.
    pub file: PathBuf,
    /// The process number of the server that runs on the directory; empty if the number is unknown.
    /// `None` if no server runs.
    pub in_use: Option<String>,
    /// The schema version of the file, and the version that this program writes.
    pub schema: (usize, usize),
    /// The epoch of the log.
    pub epoch: Option<String>,
    /// The fingerprint of the id key from which the addresses in the log were computed.
    pub id_key: Option<String>,
    /// A warning if other users can read the log.
    pub exposed: Option<String>,
    /// The number of entries.
    pub entries: u64,
    /// The number and the time of the first entry.
    pub first: Option<(u64, u64)>,
    /// The number and the time of the last entry.
    pub last: Option<(u64, u64)>,
    /// The size of the database file, in bytes.
    pub size: u64,
    /// How many bytes of the file are free for further entries.
    pub free: u64,
    /// The size of the write-ahead log (WAL) beside the database file, in bytes.
    pub wal: u64,
}

/// Reads the whole log in a data directory, and the id key there or in `id_key_file`. Returns
/// `None` if there is no log yet and the directory can be created.
///
/// # Errors
/// [`Error::Write`] if the directory cannot be created; [`Error::Content`] if something is damaged
/// or missing; [`Error::Read`] or [`Error::Database`] if the file cannot be read.
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
    // The transaction reads one snapshot, even if a server writes at the same time.
    connection.execute_batch("BEGIN").map_err(unreadable)?;
    let faults = integrity(&connection).map_err(unreadable)?;
    if !faults.is_empty() {
        let reason = format!(
            "damaged: {}; restore a backup, or move the data directory away to begin anew",
            faults.join("; ")
        );
        return Err(Error::Content { what: "log", file, reason });
    }
    // A file with an older schema may lack columns. The next start of a server migrates it.
    if version == schema::STEPS.len() {
        entries(&connection, &mut checked).map_err(unreadable)?;
        let earlier = checked.id_key.as_deref().filter(|_| checked.entries > 0);
        check_id_key(earlier, id_key.as_ref(), id_key_file)?;
    }
    Ok(Some(checked))
}

/// Whether the first start of a server ended before it had created the log. The next start rolls
/// this back. Until then SQLite cannot read the file without writing to it.
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
