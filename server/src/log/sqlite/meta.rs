//! The table `meta`, which holds values besides the entries.

use rusqlite::{Connection, OptionalExtension as _, Result};

use super::row;

/// The name of the value that holds the log's epoch.
pub(super) const EPOCH: &str = "epoch";
/// The name of the value that holds the fingerprint of the id key. The addresses in the log were
/// computed from that key.
pub(super) const ID_KEY: &str = "id_key";
/// The name of the value that holds the number of the last trimmed entry. The head of the log is
/// never below this number, even if no entry is left.
pub(super) const TRIMMED_THROUGH: &str = "trimmed_through";

pub(super) fn get(connection: &Connection, name: &str) -> Result<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = ?")?;
    statement.query_row([name], |row| row.get(0)).optional()
}

pub(super) fn set(connection: &Connection, name: &str, value: &str) -> Result<()> {
    let upsert = "INSERT INTO meta (name, value) VALUES (?, ?) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(upsert)?.execute([name, value])?;
    Ok(())
}

/// The number of the last entry that was trimmed; 0 if none was.
pub(super) fn trimmed_through(connection: &Connection) -> Result<u64> {
    let Some(value) = get(connection, TRIMMED_THROUGH)? else { return Ok(0) };
    value.parse().map_err(|_| row::damaged(0, format!("{TRIMMED_THROUGH} is damaged")))
}
