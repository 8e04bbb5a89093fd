//! Opens the database file and migrates a file with an older schema.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::Error;

/// The letters "Tocs" as SQLite's `application_id`, which marks the files of this program.
const APPLICATION: i32 = 0x546f_6373;
/// How long a lock of another program, such as an administrator's `sqlite3`, may delay an append.
const PATIENCE: Duration = Duration::from_secs(1);
/// The largest size of the WAL on disk after a checkpoint.
const WAL_KEPT: u32 = 64 * 1024 * 1024;

/// The migrations from an empty file to the present schema. `PRAGMA user_version` is the number of
/// migrations that were applied to a file. A migration is never changed; a change of the schema is
/// a new migration.
pub(super) const STEPS: &[&str] = &[
    // `seq` is SQLite's row number, so rows are stored in the order of the log. `body` is the text
    // of a message or a read mark; see `row`.
    "CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        tag TEXT NOT NULL,
        kind INTEGER NOT NULL,
        address BLOB,
        body ANY,
        expires INTEGER,
        mid TEXT,
        append_writer INTEGER,
        append_number INTEGER
    ) STRICT;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;",
];

/// Opens the database for writing and migrates it.
pub(super) fn open(file: &Path) -> Result<Connection, Error> {
    let failed = |what| move |source| Error::Database { file: file.into(), what, source };
    let mut connection = connect(file).map_err(failed("cannot be opened"))?;
    migrate(&mut connection, file, STEPS)?;
    Ok(connection)
}

/// Opens the database for writing, without migrating it.
pub(super) fn connect(file: &Path) -> rusqlite::Result<Connection> {
    // Only one thread uses the connection, so SQLite needs no mutex.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    // `Store::checkpoint` checkpoints between appends instead.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Opens the database for reading. A server may use the database at the same time.
pub(super) fn connect_to_read(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Applies the migrations that the file lacks, each in one transaction.
pub(super) fn migrate(
    connection: &mut Connection,
    file: &Path,
    steps: &[&str],
) -> Result<(), Error> {
    let failed = |source| Error::Database { file: file.into(), what: "cannot be updated", source };
    let mut done = version(connection, file, steps.len())?;
    let new = done == 0;
    while done < steps.len() {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        transaction.execute_batch(steps[done]).map_err(failed)?;
        done += 1;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        transaction.pragma_update(None, "user_version", done as i64).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        if !new {
            tracing::info!(version = done, "the log's schema was brought up to date");
        }
    }
    Ok(())
}

/// The number of migrations that were applied to the file. Fails if the file belongs to another
/// program or to a newer version of this one.
pub(super) fn version(connection: &Connection, file: &Path, known: usize) -> Result<usize, Error> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let read = || -> rusqlite::Result<_> {
        let tables = "SELECT count(*) FROM sqlite_schema";
        let tables: i64 = connection.query_row(tables, [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    let unreadable = |source| Error::Database { file: file.into(), what: "cannot be read", source };
    let (application, version, tables) = read().map_err(unreadable)?;
    let wrong = |reason| Err(Error::Content { what: "log", file: file.into(), reason });
    if (application, version, tables) == (0, 0, 0) {
        return Ok(0);
    }
    if application != APPLICATION {
        return wrong("it is another program's database; give --data another directory".into());
    }
    match usize::try_from(version) {
        Ok(version) if version <= known => Ok(version),
        _ => wrong(format!(
            "its schema is version {version}, and this server knows versions up to {known}: a \
             newer server wrote it, use that one or a backup from before it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log.sqlite3");
        std::fs::write(&file, "").unwrap();
        (dir, file)
    }

    fn version_of(file: &Path) -> i32 {
        let connection = Connection::open(file).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_goes_through_the_steps_that_it_lacks() {
        let (_dir, file) = file();
        let connection = open(&file).unwrap();
        let insert = "INSERT INTO entries (seq, at, tag, kind, body) VALUES (7, 1, 't', 0, '1')";
        connection.execute_batch(insert).unwrap();
        drop(connection);
        assert_eq!(version_of(&file), STEPS.len() as i32);

        let further = [STEPS, &["ALTER TABLE entries ADD COLUMN later INTEGER DEFAULT 5"]].concat();
        let mut connection = connect(&file).unwrap();
        migrate(&mut connection, &file, &further).unwrap();
        let later = connection.query_row("SELECT seq, later FROM entries", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        assert_eq!(later.unwrap(), (7, 5));
        // A migration is applied only once.
        migrate(&mut connection, &file, &further).unwrap();
        drop(connection);
        assert_eq!(version_of(&file), further.len() as i32);

        // An older server does not touch the newer file.
        let error = open(&file).unwrap_err().to_string();
        let words =
            format!("version {}, and this server knows versions up to {}", further.len(), 1);
        assert!(error.contains(&words), "{error}");
        assert_eq!(version_of(&file), further.len() as i32);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let (_dir, file) = file();
        drop(open(&file).unwrap());
        let broken = "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1)";
        let mut connection = connect(&file).unwrap();
        let steps = [STEPS, &[broken]].concat();
        assert!(migrate(&mut connection, &file, &steps).is_err());
        let half = "SELECT count(*) FROM sqlite_schema WHERE name = 'half'";
        assert_eq!(connection.query_row(half, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        drop(connection);
        assert_eq!(version_of(&file), STEPS.len() as i32);
        open(&file).unwrap();
    }

    #[test]
    fn other_files_are_left_alone() {
        let (_dir, file) = file();
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
        let error = open(&file).unwrap_err();
        assert!(error.to_string().contains("another program's"), "{error}");
        std::fs::write(&file, "no database, but a text of some length".repeat(100)).unwrap();
        let error = open(&file).unwrap_err();
        assert_eq!(error.exit_code(), shared::exit::DATA, "{error}");
        assert!(error.to_string().contains("restore a backup"), "{error}");
    }
}
