//! Trimming: the oldest entries go when they are too old or take too much room.
//!
//! In small transactions between appends. What they free is used again by later entries, so the
//! file grows no further than the most that was ever in it.

use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension as _, Result, TransactionBehavior};

use super::store::Store;
use super::{meta, row};
use crate::clock::now_ms;

/// At most so many entries go at once, and so many bytes of bodies: some milliseconds' work. More
/// than one batch of appends brings, or the log would grow for as long as it is busy.
const ENTRIES: u64 = 4_096;
const BYTES: u64 = 4 * 1024 * 1024;
/// How often ages are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What the database may hold.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// Older entries are of no use to anyone.
    pub(super) retention: Duration,
    /// Bytes of entries, counted in whole pages.
    pub(super) size: u64,
    next_look: Option<Instant>,
}

impl Upkeep {
    pub(super) fn new(retention: Duration, size: u64) -> Self {
        Self { retention, size, next_look: None }
    }
}

impl Default for Upkeep {
    /// Everything.
    fn default() -> Self {
        Self::new(Duration::MAX, u64::MAX)
    }
}

impl Store {
    /// Removes a few of the oldest entries if there are too many or too old ones. Whether there
    /// may be more of them.
    pub(super) fn trim(&mut self) -> Result<bool> {
        let excess = self.used()?.saturating_sub(self.upkeep.size);
        let too_large = excess > 0;
        let now = Instant::now();
        if !too_large && self.upkeep.next_look.is_some_and(|next| now < next) {
            return Ok(false);
        }
        let too_old_before = self.too_old_before()?;
        let mut through = None;
        let (mut entries, mut bytes) = (0, 0);
        let oldest = "SELECT seq, at, ifnull(octet_length(body), 0) FROM entries \
             ORDER BY seq LIMIT ?";
        let mut statement = self.connection.prepare_cached(oldest)?;
        let mut rows = statement.query([row::stored(ENTRIES)])?;
        while let Some(found) = rows.next()?
            && bytes < BYTES
        {
            if bytes >= excess && row::kept(found.get(1)?) >= too_old_before {
                break;
            }
            through = Some(row::kept(found.get(0)?));
            entries += 1;
            bytes += row::kept(found.get(2)?);
        }
        drop(rows);
        drop(statement);
        let Some(through) = through else {
            self.upkeep.next_look = Some(now + LOOK);
            return Ok(false);
        };
        self.remove(through)?;
        let all_of_them = entries < ENTRIES && bytes < BYTES && !too_large;
        if all_of_them {
            self.upkeep.next_look = Some(now + LOOK);
        }
        Ok(!all_of_them)
    }

    fn remove(&mut self, through: u64) -> Result<()> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let delete = "DELETE FROM entries WHERE seq <= ?";
        transaction.prepare_cached(delete)?.execute([row::stored(through)])?;
        meta::set(&transaction, meta::TRIMMED_THROUGH, &through.to_string())?;
        transaction.commit()
    }

    /// Entries of an earlier time are too old. By the newest entry's time, as the hub counts, so
    /// that a restart loses nothing that was there before it; but never by a clock that was ahead
    /// when that entry came.
    fn too_old_before(&self) -> Result<u64> {
        let newest = "SELECT at FROM entries ORDER BY seq DESC LIMIT 1";
        let mut newest = self.connection.prepare_cached(newest)?;
        let newest: Option<i64> = newest.query_row([], |row| row.get(0)).optional()?;
        let retention = u64::try_from(self.upkeep.retention.as_millis()).unwrap_or(u64::MAX);
        Ok(newest.map_or(0, |newest| row::kept(newest).min(now_ms()).saturating_sub(retention)))
    }

    /// Bytes of pages that hold something.
    pub(super) fn used(&self) -> Result<u64> {
        let number = |sql| -> Result<i64> {
            self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
        };
        let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
        Ok(row::kept(pages * number("PRAGMA page_size")?))
    }
}
