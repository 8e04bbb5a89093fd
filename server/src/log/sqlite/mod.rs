//! The log on disk. Accepted entries survive a crash of the process or the system, and a power cut.
//!
//! The log is an SQLite database with a write-ahead log (WAL). The WAL is synced to disk before a
//! sender gets its answer. One thread writes. Entries that arrive during a sync are written
//! together with the next one.

mod check;
mod dir;
mod id_key_check;
mod meta;
mod queue;
mod row;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod trim;
mod writer;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dir::Dir;
use futures_util::future::BoxFuture;
use id_key_check::check_id_key;
use queue::{Queue, Rejected};
use store::{Store, Upkeep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use writer::Writer;

pub(crate) use check::check;
pub(crate) use dir::ID_KEY;

use super::{Appending, Counts, Log, Queued, Sink};
use crate::entry::{AppendContext, Entry};
use crate::error::Error;
use crate::hex::random_hex;
use crate::id::IdKey;
use crate::protocol::{Outcome, Refusal};

/// How often the server logs its progress while it reads a long log.
const PROGRESS: Duration = Duration::from_secs(2);

/// How long a stopping server waits for the disk, which may hang for ever. Entries that are not
/// merged into the database by then are in the WAL, which the next start reads.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// An open data directory before any entry is written to it.
#[derive(Debug)]
pub(crate) struct OpenedDatabase {
    dir: Dir,
    store: Store,
    /// The epoch: a random name of this log. A log that begins anew gets another epoch.
    pub(crate) epoch: String,
    /// The number of the last entry that was trimmed; the log begins right after it.
    pub(crate) floor: u64,
    head: u64,
}

impl OpenedDatabase {
    /// Locks the directory, which is created if it is missing, and opens the log in it.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Write`], [`Error::Database`]; [`Error::Content`] if the file
    /// belongs to a newer server or another program.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let dir = Dir::take(path)?;
        let store = Store::open(&dir.database())?;
        let read = || {
            let connection = &store.connection;
            let (epoch, floor) =
                (meta::get(connection, meta::EPOCH)?, meta::trimmed_through(connection)?);
            Ok((epoch, floor, store.last()?))
        };
        let (epoch, floor, head) = read().map_err(store.error("cannot be read"))?;
        let epoch = epoch.map_or_else(|| new_epoch_in(&store), Ok)?;
        Ok(Self { dir, store, epoch, floor, head })
    }

    /// The key from which the addresses in the log were computed. It is read from `file`, or else
    /// from the directory. If the log has no entries, any key fits, and a missing file is created.
    ///
    /// # Errors
    /// The errors of [`IdKey::load_or_create`]; [`Error::Content`] if the log has entries and the
    /// key is missing or another one.
    pub(crate) fn id_key(&self, file: Option<&Path>) -> Result<IdKey, Error> {
        let own = self.dir.id_key();
        let file = file.unwrap_or(&own);
        let earlier = earlier_id_key(&self.store)?;
        let found = IdKey::load(file)?;
        check_id_key(earlier.as_deref(), found.as_ref(), file)?;
        let key = found.map_or_else(|| IdKey::load_or_create(file), Ok)?;
        if earlier.is_none() {
            meta::set(&self.store.connection, meta::ID_KEY, &key.fingerprint())
                .map_err(self.store.error("cannot be written"))?;
        }
        Ok(key)
    }

    /// Passes every entry to `sink`, in order. Calls `stop` now and then, and stops if it returns
    /// `true`.
    ///
    /// # Errors
    /// [`Error::Database`], also if an entry is damaged or missing.
    pub(crate) fn replay(
        &self,
        sink: &dyn Sink,
        stop: &dyn Fn() -> bool,
    ) -> Result<ControlFlow<()>, Error> {
        let all = self.head - self.floor;
        let begun = Instant::now();
        let (mut read, mut told, mut replayed) = (0u64, begun, ControlFlow::Continue(()));
        let reading = self.store.read(self.floor, |seq, entry| {
            // The sender got its reply before the restart, so nobody needs the outcome.
            let _ = sink.apply(seq, &entry, AppendContext::default());
            read += 1;
            if !read.is_multiple_of(1024) {
                return ControlFlow::Continue(());
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                tracing::info!("read {read} of {all} entries");
            }
            if stop() {
                replayed = ControlFlow::Break(());
            }
            replayed
        });
        reading.map_err(self.store.error("cannot be read"))?;
        tracing::info!(entries = read, ms = begun.elapsed().as_millis(), "the log was read");
        Ok(replayed)
    }

    /// Starts the thread that writes. It passes entries to `sink` as soon as they are durable. It
    /// trims entries older than `retention`, and the oldest entries if the log exceeds `size`
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Os`] if the system gives no thread or no random number.
    pub(crate) fn start(
        mut self,
        sink: Arc<dyn Sink>,
        retention: Duration,
        size: u64,
    ) -> Result<SqliteLog, Error> {
        self.store.upkeep = Upkeep { retention, size, ..Upkeep::default() };
        let queue = Arc::new(Queue::new(getrandom::u64().map_err(Error::no_randomness)?));
        let ended = CancellationToken::new();
        let end = End { queue: Arc::clone(&queue), ended: ended.clone() };
        let writer = Writer::new(self.store, Arc::clone(&queue), Arc::clone(&sink), self.head);
        let counts = Arc::clone(&writer.counts);
        let dir = self.dir;
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
            // `_dir` is dropped last, so the directory stays locked until the thread has ended.
            let _dir = dir;
            let _end = end;
            writer.run();
        });
        let thread = thread.map_err(|source| Error::Os { what: "starting threads", source })?;
        Ok(SqliteLog { queue, sink, counts, ended, thread: Some(thread) })
    }
}

/// Gives the log in a directory a new epoch. Returns the old epoch, if the log had one, and the new
/// one. The id key is read from `id_key_file`, or else from the directory.
///
/// # Errors
/// The errors of [`OpenedDatabase::open`]; [`Error::Content`] if there is no log, or if its id key
/// is missing or another one.
pub(crate) fn new_epoch(
    path: &Path,
    id_key_file: Option<&Path>,
) -> Result<(Option<String>, String), Error> {
    let dir = Dir::take_existing(path)?;
    let store = Store::open(&dir.database())?;
    // A backup without its id key is useless. This check finds that before the next start does.
    let own = dir.id_key();
    let file = id_key_file.unwrap_or(&own);
    check_id_key(earlier_id_key(&store)?.as_deref(), IdKey::load(file)?.as_ref(), file)?;
    let old = meta::get(&store.connection, meta::EPOCH).map_err(store.error("cannot be read"))?;
    Ok((old, new_epoch_in(&store)?))
}

/// The fingerprint of the key from which the addresses in the log were computed. `None` if the log
/// has no entries, so that any key fits.
fn earlier_id_key(store: &Store) -> Result<Option<String>, Error> {
    let connection = &store.connection;
    let read = || {
        let has_entries = store.last()? > meta::trimmed_through(connection)?;
        Ok(meta::get(connection, meta::ID_KEY)?.filter(|_| has_entries))
    };
    read().map_err(store.error("cannot be read"))
}

fn new_epoch_in(store: &Store) -> Result<String, Error> {
    let epoch = random_hex::<8>().map_err(Error::no_randomness)?;
    meta::set(&store.connection, meta::EPOCH, &epoch).map_err(store.error("cannot be written"))?;
    Ok(epoch)
}

/// The log on disk. When it is dropped, it writes and answers the waiting appends and ends the
/// thread. If this takes more than a second, the waiting appends get the outcome `unknown`, and the
/// thread ends with the process.
#[derive(Debug)]
pub(crate) struct SqliteLog {
    queue: Arc<Queue>,
    sink: Arc<dyn Sink>,
    counts: Arc<Counts>,
    ended: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl SqliteLog {
    /// Completes when the thread has ended, because the log was dropped or because of a defect.
    pub(crate) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.ended.clone().cancelled_owned()
    }
}

impl Log for SqliteLog {
    fn append(&self, entry: Entry, context: AppendContext) -> Appending {
        let refused = |detail| Err(Refusal::unavailable(Outcome::Refused, detail));
        let queued = self.sink.admit().and_then(|()| match self.queue.push(entry, context) {
            Ok(outcome) => Ok(Appending::Waiting(outcome)),
            Err(Rejected::Full) => refused("the disk is behind; retry in a moment"),
            Err(Rejected::Closed) => refused("the server is ending; retry in a moment"),
        });
        queued.unwrap_or_else(|refusal| self.counts.refuse(refusal))
    }

    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn answered(&self) -> BoxFuture<'_, ()> {
        self.queue.answered()
    }

    fn queued(&self) -> Option<Queued> {
        Some(self.queue.waiting())
    }
}

impl Drop for SqliteLog {
    fn drop(&mut self) {
        self.queue.close();
        let Some(thread) = self.thread.take() else { return };
        if self.queue.is_abandoned_within(LAST_WRITES) {
            // A panic of the thread was logged when it happened.
            let _ = thread.join();
        } else {
            let Queued { entries, .. } = self.queue.waiting();
            tracing::warn!(
                entries,
                "the disk stands still; ending without it: messages that were not acknowledged may be lost"
            );
            self.queue.abandon();
        }
    }
}

/// Reports the end of the writer's thread, also after a panic.
struct End {
    queue: Arc<Queue>,
    ended: CancellationToken,
}

impl Drop for End {
    fn drop(&mut self) {
        self.queue.abandon();
        self.ended.cancel();
    }
}
