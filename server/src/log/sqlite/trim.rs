//! Trimming deletes the oldest entries when they are too old or take too much space.
//!
//! Trimming runs in small transactions between appends. Later entries reuse the freed pages, so the
//! file never shrinks, and grows only when the log needs more space than ever before.

use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension as _, Result, TransactionBehavior};

use super::meta;
use super::store::Store;
use crate::clock::now_ms;

/// How many entries one step deletes at most, and how many bytes of their bodies. A step takes a
/// few milliseconds. It can delete more than a batch of appends adds (`queue::BATCH`); otherwise
/// the log would grow while it is busy.
const ENTRIES: u64 = 4_096;
const BYTES: u64 = 4 * 1024 * 1024;
/// How often the ages of the entries are checked.
const AGE_CHECK: Duration = Duration::from_secs(10);

impl Store {
    /// Deletes some of the oldest entries if the log is too large or they are too old. Returns
    /// `true` if more entries may have to go.
    pub(super) fn trim(&mut self) -> Result<bool> {
        let excess = self.used()?.saturating_sub(self.upkeep.size);
        let too_large = excess > 0;
        let now = Instant::now();
        if !too_large && self.upkeep.next_age_check.is_some_and(|next| now < next) {
            return Ok(false);
        }
        let too_old_before = self.too_old_before()?;
        let mut through = None;
        let (mut entries, mut bytes) = (0, 0);
        let oldest = "SELECT seq, at, ifnull(octet_length(body), 0) FROM entries \
             ORDER BY seq LIMIT ?";
        let mut statement = self.connection.prepare_cached(oldest)?;
        let mut rows = statement.query([ENTRIES.cast_signed()])?;
        while let Some(found) = rows.next()?
            && bytes < BYTES
        {
            if bytes >= excess && found.get::<_, i64>(1)?.cast_unsigned() >= too_old_before {
                break;
            }
            through = Some(found.get::<_, i64>(0)?.cast_unsigned());
            entries += 1;
            bytes += found.get::<_, i64>(2)?.cast_unsigned();
        }
        drop(rows);
        drop(statement);
        let Some(through) = through else {
            self.upkeep.next_age_check = Some(now + AGE_CHECK);
            return Ok(false);
        };
        self.remove(through)?;
        let all_of_them = entries < ENTRIES && bytes < BYTES && !too_large;
        if all_of_them {
            self.upkeep.next_age_check = Some(now + AGE_CHECK);
        }
        Ok(!all_of_them)
    }

    fn remove(&mut self, through: u64) -> Result<()> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let delete = "DELETE FROM entries WHERE seq <= ?";
        transaction.prepare_cached(delete)?.execute([through.cast_signed()])?;
        meta::set(&transaction, meta::TRIMMED_THROUGH, &through.to_string())?;
        transaction.commit()
    }

    /// The time before which entries are too old. It is counted from the newest entry, as in the
    /// hub, so that a restart loses nothing. If the newest entry's time is in the future because a
    /// clock was ahead, the present time is used instead.
    fn too_old_before(&self) -> Result<u64> {
        let newest = "SELECT at FROM entries ORDER BY seq DESC LIMIT 1";
        let mut newest = self.connection.prepare_cached(newest)?;
        let newest: Option<i64> = newest.query_row([], |row| row.get(0)).optional()?;
        let retention = u64::try_from(self.upkeep.retention.as_millis()).unwrap_or(u64::MAX);
        Ok(newest
            .map_or(0, |newest| newest.cast_unsigned().min(now_ms()).saturating_sub(retention)))
    }

    /// The size of the pages in use, in bytes.
    pub(super) fn used(&self) -> Result<u64> {
        let number = |sql| -> Result<i64> {
            self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
        };
        let pages = number("PRAGMA page_count")? - number("PRAGMA freelist_count")?;
        Ok((pages * number("PRAGMA page_size")?).cast_unsigned())
    }
}
