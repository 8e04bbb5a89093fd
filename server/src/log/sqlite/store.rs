//! The operations of the writer on the database: append, find the outcome of a failed append, and
//! read.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error as SqliteError, ErrorCode, TransactionBehavior};

use super::{meta, row, schema};
use crate::entry::Entry;
use crate::error::Error;

/// The outcome of a failed append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// The entries are not in the log, and will not appear later.
    Absent,
    /// The entries are in the log, and survive a power cut.
    Present,
    /// The outcome is unknown until the log has been read again.
    Unknown,
}

/// A failed append.
#[derive(Debug)]
pub(super) struct WriteFailure {
    pub(super) error: SqliteError,
    pub(super) outcome: WriteOutcome,
}

/// The disk operations that the writer needs. Tests use an implementation that fails on demand.
pub(super) trait Disk: Send {
    /// Appends entries, numbered from `first` on, in one transaction. They survive a power cut once
    /// this function has returned.
    fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), WriteFailure>;

    /// Reads the log again after an append of unknown outcome: passes the entries after `head` to
    /// `each`, and makes sure that they survive a power cut.
    fn resync(&mut self, head: u64, each: &mut dyn FnMut(u64, Entry)) -> Result<(), SqliteError>;

    /// Does one step of trimming and checkpointing. Returns `true` if the next step is due at once.
    fn tidy(&mut self) -> Result<bool, SqliteError>;

    /// Merges everything into one file.
    fn finish(&mut self) -> Result<(), SqliteError>;
}

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    pub(super) connection: Connection,
    pub(super) upkeep: Upkeep,
    /// The number of frames in the WAL at the last checkpoint.
    checkpointed: i64,
    /// Whether a sync has failed since the WAL was truncated. After a failed sync the kernel may
    /// have dropped the unwritten pages, and a later sync would then succeed without them.
    suspect: bool,
}

/// The limits of the database.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// The age beyond which entries are deleted.
    pub(super) retention: Duration,
    /// The largest size of the entries in bytes, counted in whole pages.
    pub(super) size: u64,
    pub(super) next_age_check: Option<Instant>,
}

impl Default for Upkeep {
    /// Limits that keep everything.
    fn default() -> Self {
        Self { retention: Duration::MAX, size: u64::MAX, next_age_check: None }
    }
}

/// How many new frames in the WAL lead to a checkpoint: about 4 MiB, which takes a few
/// milliseconds.
const WAL_FRAMES: i64 = 1_000;

impl Store {
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let connection = schema::open(file)?;
        let upkeep = Upkeep::default();
        Ok(Self { file: file.into(), connection, upkeep, checkpointed: 0, suspect: false })
    }

    /// Turns an error of the database into an error of this program.
    pub(super) fn error(&self, what: &'static str) -> impl FnOnce(SqliteError) -> Error + use<> {
        let file = self.file.clone();
        move |source| Error::Database { file, what, source }
    }

    /// The number of the last entry, even if it was trimmed.
    pub(super) fn last(&self) -> Result<u64, SqliteError> {
        let newest = "SELECT max(seq) FROM entries";
        let mut newest = self.connection.prepare_cached(newest)?;
        let newest: Option<i64> = newest.query_row([], |row| row.get(0))?;
        match newest {
            Some(seq) => Ok(seq.cast_unsigned()),
            None => meta::trimmed_through(&self.connection),
        }
    }

    /// Passes every entry after `after` to `each`, in order, until `each` returns `Break`.
    ///
    /// # Errors
    /// An error of the database, also if an entry is damaged or missing.
    pub(super) fn read(
        &self,
        after: u64,
        mut each: impl FnMut(u64, Entry) -> ControlFlow<()>,
    ) -> Result<(), SqliteError> {
        let sql = format!("SELECT {} FROM entries WHERE seq > ? ORDER BY seq", row::COLUMNS);
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([after.cast_signed()])?;
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

    /// Finds the outcome of an append that failed with `error`.
    ///
    /// The last frame in the WAL commits the transaction. If the disk was too full for this frame,
    /// nothing was written. But if only the sync failed, the frame may be in the file. This
    /// connection would ignore it, but the next start would not. Truncating the WAL removes the
    /// frame.
    fn outcome(&mut self, before: u64, error: &SqliteError, at_commit: bool) -> WriteOutcome {
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
            Ok(last) if last == before => WriteOutcome::Absent,
            Ok(_) => WriteOutcome::Present,
            Err(_) => WriteOutcome::Unknown,
        }
    }

    /// Checkpoints and truncates the WAL. Everything is then in the database file and survives a
    /// power cut, even if syncs of the WAL have failed before.
    pub(super) fn empty_wal(&mut self) -> Result<(), SqliteError> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: bool = self.connection.query_row(checkpoint, [], |row| row.get(0))?;
        if busy {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(SqliteError::SqliteFailure(busy, None));
        }
        (self.checkpointed, self.suspect) = (0, false);
        Ok(())
    }

    /// Checkpoints the WAL when it is long enough, so that appends can start again at its
    /// beginning. Another program that reads the file may prevent this; this connection does not
    /// wait for it.
    pub(super) fn checkpoint(&mut self) -> Result<(), SqliteError> {
        let frames = |connection: &Connection, sql| -> Result<i64, SqliteError> {
            connection.prepare_cached(sql)?.query_row([], |row| row.get(1))
        };
        let now = frames(&self.connection, "PRAGMA wal_checkpoint(NOOP)")?;
        if now < self.checkpointed {
            self.checkpointed = 0;
        }
        if now >= self.checkpointed + WAL_FRAMES {
            self.checkpointed = frames(&self.connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }
}

impl Disk for Store {
    fn append(&mut self, first: u64, entries: &[Entry]) -> Result<(), WriteFailure> {
        if self.suspect {
            self.empty_wal()
                .map_err(|error| WriteFailure { error, outcome: WriteOutcome::Absent })?;
        }
        self.insert_all(first, entries).map_err(|(error, at_commit)| {
            let outcome = self.outcome(first - 1, &error, at_commit);
            WriteFailure { error, outcome }
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
