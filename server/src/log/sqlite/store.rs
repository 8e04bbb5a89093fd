//! The database as the writer uses it: append, find out what became of a failed append, read.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Error as SqliteError, ErrorCode, TransactionBehavior};

use super::trim::Upkeep;
use super::{meta, row, schema};
use crate::entry::Entry;
use crate::error::Error;

/// What became of entries whose append failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are not in the log and will never be.
    Absent,
    /// They are in the log, and durable.
    Present,
    /// Nobody can tell before the log has been read anew.
    Unknown,
}

/// A failed append.
#[derive(Debug)]
pub(super) struct WriteFailure {
    pub(super) error: SqliteError,
    pub(super) fate: Fate,
}

/// What the writer needs of a disk. Tests have another one, that fails as they want it.
pub(super) trait Disk: Send {
    /// Appends entries numbered from `first` on, as a whole. They survive a power cut when this
    /// returns.
    fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), WriteFailure>;

    /// After an append of unknown fate: reads the log anew, hands over what is beyond `head`, and
    /// makes sure that it survives a power cut.
    fn resync(&mut self, head: u64, each: &mut dyn FnMut(u64, Entry)) -> Result<(), SqliteError>;

    /// A small part of what keeps the files small. Whether there is more to do at once.
    fn tidy(&mut self) -> Result<bool, SqliteError>;

    /// Leaves everything in one file.
    fn finish(&mut self) -> Result<(), SqliteError>;
}

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    pub(super) connection: Connection,
    pub(super) upkeep: Upkeep,
    /// Frames in the WAL when it was last worked off, wholly or in part.
    worked_off: i64,
    /// Whether a sync has failed since the WAL was cut. The kernel may have given up writing then,
    /// and a later sync would succeed without what was lost.
    suspect: bool,
}

/// Frames in the WAL after which it is worked off: some 4 MiB, which is a few milliseconds' work.
const WAL_FRAMES: i64 = 1_000;

impl Store {
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let connection = schema::open(file)?;
        let upkeep = Upkeep::default();
        Ok(Self { file: file.into(), connection, upkeep, worked_off: 0, suspect: false })
    }

    /// The error of this program for one of the database.
    pub(super) fn error(&self, what: &'static str) -> impl FnOnce(SqliteError) -> Error + use<> {
        let file = self.file.clone();
        move |source| Error::Database { file, what, source }
    }

    /// The number of the last entry, also if it is gone by now.
    pub(super) fn last(&self) -> Result<u64, SqliteError> {
        let newest = "SELECT max(seq) FROM entries";
        let mut newest = self.connection.prepare_cached(newest)?;
        let newest: Option<i64> = newest.query_row([], |row| row.get(0))?;
        match newest {
            Some(seq) => Ok(row::kept(seq)),
            None => meta::trimmed_through(&self.connection),
        }
    }

    /// Hands over every entry beyond `after`, in order, until told to stop.
    ///
    /// # Errors
    /// Also where one is damaged or missing.
    pub(super) fn read(
        &self,
        after: u64,
        mut each: impl FnMut(u64, Entry) -> ControlFlow<()>,
    ) -> Result<(), SqliteError> {
        let sql = format!("SELECT {} FROM entries WHERE seq > ? ORDER BY seq", row::COLUMNS);
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([row::stored(after)])?;
        let mut before = after;
        while let Some(row) = rows.next()? {
            let (seq, entry) = row::read(row)?;
            if seq != before + 1 {
                return Err(row::missing(before + 1, seq - 1));
            }
            before = seq;
            if each(seq, entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn insert_all(&mut self, first: u64, entries: &[Entry]) -> Result<(), (SqliteError, bool)> {
        let early = |error| (error, false);
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(early)?;
        let mut insert = transaction.prepare_cached(row::INSERT).map_err(early)?;
        for (seq, entry) in (first..).zip(entries) {
            row::insert(&mut insert, seq, entry).map_err(early)?;
        }
        drop(insert);
        transaction.commit().map_err(|error| (error, true))
    }

    /// What became of an append that `error` ended.
    ///
    /// Its last frame in the WAL is the one that makes it count. If the disk had no room for that,
    /// nothing counts. But if only the sync failed, the frame may be there: this connection does
    /// not see it, the next start would. It is gone once the WAL has been worked off and cut.
    fn fate(&mut self, before: u64, error: &SqliteError, at_commit: bool) -> Fate {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        let mut look = || {
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            if at_commit && !full {
                self.suspect = true;
                self.empty_wal()?;
            }
            self.last()
        };
        match look() {
            Ok(last) if last == before => Fate::Absent,
            Ok(_) => Fate::Present,
            Err(_) => Fate::Unknown,
        }
    }

    /// Works the WAL off and cuts it: from here on everything stands in the database file, and
    /// survives a power cut even if syncs of the WAL have failed before.
    pub(super) fn empty_wal(&mut self) -> Result<(), SqliteError> {
        let busy = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
        if busy {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(SqliteError::SqliteFailure(busy, None));
        }
        (self.worked_off, self.suspect) = (0, false);
        Ok(())
    }

    /// Works the WAL off when it is long enough, so that appends can begin it anew. Another reader
    /// of the file may keep that from happening while it reads; this connection never waits for it.
    pub(super) fn checkpoint(&mut self) -> Result<(), SqliteError> {
        let frames = |connection: &Connection, sql| -> Result<i64, SqliteError> {
            connection.prepare_cached(sql)?.query_row([], |row| row.get(1))
        };
        let now = frames(&self.connection, "PRAGMA wal_checkpoint(NOOP)")?;
        if now < self.worked_off {
            self.worked_off = 0;
        }
        if now >= self.worked_off + WAL_FRAMES {
            self.worked_off = frames(&self.connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }
}

impl Disk for Store {
    fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), WriteFailure> {
        if self.suspect {
            self.empty_wal().map_err(|error| WriteFailure { error, fate: Fate::Absent })?;
        }
        self.insert_all(first, entries).map_err(|(error, at_commit)| {
            let fate = self.fate(first - 1, &error, at_commit);
            WriteFailure { error, fate }
        })
    }

    fn resync(&mut self, head: u64, each: &mut dyn FnMut(u64, Entry)) -> Result<(), SqliteError> {
        self.connection = schema::connect(&self.file)?;
        self.empty_wal()?;
        self.read(head, |seq, entry| {
            each(seq, entry);
            ControlFlow::Continue(())
        })
    }

    fn tidy(&mut self) -> Result<bool, SqliteError> {
        let tidied = self.trim().and_then(|more| self.checkpoint().map(|()| more));
        self.suspect |= tidied.is_err();
        tidied
    }

    fn finish(&mut self) -> Result<(), SqliteError> {
        self.empty_wal()
    }
}
