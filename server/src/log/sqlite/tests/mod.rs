//! Tests the log on a real disk, with a simple sink in place of the hub.

mod damage;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::entry::{AppendContext, Appended, Applied, EntryKind};
use crate::id::{Address, Tag};
use crate::protocol::Mark;
use crate::protocol::{Message, Mid};

/// A sink that records the applied entries.
#[derive(Debug, Default)]
pub(super) struct Applies(Mutex<Vec<(u64, Entry)>>);

impl Applies {
    pub(super) fn all(&self) -> Vec<(u64, Entry)> {
        self.0.lock().clone()
    }

    fn seqs(&self) -> Vec<u64> {
        self.0.lock().iter().map(|(seq, _)| *seq).collect()
    }
}

impl Sink for Applies {
    fn admit(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn apply(&self, seq: u64, entry: &Entry, _: AppendContext) -> Appended {
        self.0.lock().push((seq, entry.clone()));
        Ok(Applied { seq, clients: 0, stored: false, duplicate: false, partial: false })
    }
}

pub(super) fn broadcast(text: &str) -> Entry {
    let kind = EntryKind::Broadcast(Message::kept(format!("{text:?}").into()));
    let tag = Tag::parse("t").unwrap();
    Entry { tag, kind, at: 1, expires: None, mid: None, append: None }
}

fn start(dir: &Path) -> (SqliteLog, Arc<Applies>) {
    start_with(dir, Duration::MAX, u64::MAX)
}

fn start_with(dir: &Path, retention: Duration, size: u64) -> (SqliteLog, Arc<Applies>) {
    let opened = OpenedDatabase::open(dir).unwrap();
    let sink = Arc::new(Applies::default());
    assert_eq!(opened.replay(&*sink, &|| false).unwrap(), ControlFlow::Continue(()));
    (opened.start(Arc::clone(&sink) as _, retention, size).unwrap(), sink)
}

/// The entries that a closed log in the directory holds.
fn left_in(dir: &Path) -> Vec<(u64, Entry)> {
    let sink = Applies::default();
    let _ = OpenedDatabase::open(dir).unwrap().replay(&sink, &|| false).unwrap();
    sink.all()
}

async fn append(log: &SqliteLog, entry: Entry) -> u64 {
    log.append(entry, AppendContext::default()).await.unwrap().seq
}

fn wal(dir: &Path) -> PathBuf {
    dir.join("log.sqlite3-wal")
}

#[tokio::test]
async fn entries_come_back_as_they_were() {
    let dir = TempDir::new().unwrap();
    let address = Address::from_bytes([7; 32]);
    let message = Message::kept(r#"{"text":"Übung\u0000 \"☂\"","n":1.50}"#.into());
    let with = |kind: EntryKind| Entry { kind, ..broadcast("") };
    let entries = [
        broadcast(&"long".repeat(15_000)),
        Entry { tag: Tag::parse("other").unwrap(), ..broadcast("") },
        with(EntryKind::Direct(address, message)),
        with(EntryKind::Read(address, Mark::UpTo(u64::MAX))),
        with(EntryKind::Read(address, Mark::Only([1, 2, u64::MAX].into()))),
        with(EntryKind::Read(address, Mark::Only([].into()))),
        with(EntryKind::Drop(address)),
        Entry {
            at: 1_790_000_000_123,
            expires: Some(u64::MAX),
            mid: Some(Mid::kept("m\u{0}\u{2602}".into())),
            ..broadcast("x")
        },
    ];
    let (log, applied) = start(dir.path());
    for (seq, entry) in (1..).zip(&entries) {
        assert_eq!(append(&log, entry.clone()).await, seq);
    }
    drop(log);
    let kept = left_in(dir.path());
    assert_eq!(kept, applied.all());
    for ((_, kept), entry) in kept.iter().zip(&entries) {
        assert!(kept.append.is_some());
        assert_eq!(Entry { append: None, ..kept.clone() }, *entry);
    }
    assert_eq!(kept.len(), entries.len());
    assert!(!wal(dir.path()).exists(), "everything is in one file");
    let writers: Vec<_> = kept.iter().map(|(_, entry)| entry.append.unwrap().writer).collect();
    assert!(writers.iter().all(|writer| *writer == writers[0]), "one process, one writer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_keeps_their_order_and_dropping_the_log_answers_all() {
    let dir = TempDir::new().unwrap();
    let (log, applied) = start(dir.path());
    let log = Arc::new(log);
    let publishing: Vec<_> = (0..8)
        .map(|publisher| {
            let log = Arc::clone(&log);
            tokio::task::spawn_blocking(move || {
                // All appends begin before any of them is awaited.
                let appends = (0..200).map(|number| {
                    log.append(
                        broadcast(&format!("{publisher} {number}")),
                        AppendContext::default(),
                    )
                });
                appends.collect::<Vec<_>>()
            })
        })
        .collect();
    let mut appending = Vec::new();
    for publisher in publishing {
        appending.extend(publisher.await.unwrap());
    }
    drop(log);
    for (index, append) in appending.into_iter().enumerate() {
        let seq = append.await.unwrap().seq;
        let (_, entry) = &applied.all()[usize::try_from(seq).unwrap() - 1];
        let text = format!("\"{} {}\"", index / 200, index % 200);
        assert_eq!(entry.kind.message().unwrap().as_json(), text);
    }
    assert_eq!(applied.seqs(), (1..=1_600).collect::<Vec<_>>());
    assert_eq!(left_in(dir.path()), applied.all());
    for publisher in 0..8 {
        let begin = format!("\"{publisher} ");
        let kept = applied.all();
        let own = kept
            .iter()
            .filter_map(|(_, entry)| entry.kind.message().unwrap().as_json().strip_prefix(&begin));
        let numbers: Vec<u32> =
            own.map(|number| number.trim_end_matches('"').parse().unwrap()).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_order_and_the_epoch_go_on_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let epoch = OpenedDatabase::open(dir.path()).unwrap().epoch;
    for round in 0..3u64 {
        let (log, applied) = start(dir.path());
        assert_eq!(applied.seqs(), (1..=round * 2).collect::<Vec<_>>());
        assert_eq!(append(&log, broadcast("a")).await, round * 2 + 1);
        assert_eq!(append(&log, broadcast("b")).await, round * 2 + 2);
    }
    assert_eq!(OpenedDatabase::open(dir.path()).unwrap().epoch, epoch);
    let (old, new) = new_epoch(dir.path(), None).unwrap();
    assert_eq!(old.as_deref(), Some(&*epoch));
    assert_ne!(new, epoch);
    assert_eq!(OpenedDatabase::open(dir.path()).unwrap().epoch, new);
    assert_eq!(left_in(dir.path()).len(), 6);
    assert!(new_epoch(&dir.path().join("nothing"), None).is_err());
}

#[tokio::test]
async fn reading_can_be_stopped() {
    let dir = TempDir::new().unwrap();
    let (log, _) = start(dir.path());
    let appends: Vec<_> =
        (0..3_000).map(|_| log.append(broadcast("x"), AppendContext::default())).collect();
    for append in appends {
        append.await.unwrap();
    }
    drop(log);
    let sink = Applies::default();
    let opened = OpenedDatabase::open(dir.path()).unwrap();
    assert_eq!(opened.replay(&sink, &|| true).unwrap(), ControlFlow::Break(()));
    assert!(sink.seqs().len() < 3_000);
}

#[tokio::test]
async fn what_is_too_old_goes_and_the_order_does_not_begin_anew() {
    let dir = TempDir::new().unwrap();
    let day = 24 * 60 * 60 * 1000;
    let now = crate::clock::now_ms();
    let (log, _) = start_with(dir.path(), Duration::from_millis(2 * day), u64::MAX);
    let aged = |days| Entry { at: now - days * day, ..broadcast("x") };
    // The first entry is too young to be trimmed, and entries are trimmed in order only.
    let first: Vec<_> = [1, 9, 9]
        .into_iter()
        .chain([3; 1_000])
        .map(|days| log.append(aged(days), AppendContext::default()))
        .collect();
    for append in first {
        append.await.unwrap();
    }
    drop(log);
    assert_eq!(left_in(dir.path()).len(), 1_003);

    // No entry was trimmed, because the first one is too young.
    let opened = OpenedDatabase::open(dir.path()).unwrap();
    assert_eq!((opened.floor, opened.head), (0, 1_003));
    drop(opened);
    let retention = Duration::from_millis(day / 2);
    let (log, _) = start_with(dir.path(), retention, u64::MAX);
    append(&log, aged(0)).await;
    drop(log);
    let (log, kept) = start_with(dir.path(), retention, u64::MAX);
    drop(log);
    // The writer trims after an append and when it is idle, so it has trimmed by now.
    let opened = OpenedDatabase::open(dir.path()).unwrap();
    assert!(opened.floor >= 256, "{}", opened.floor);
    assert_eq!(kept.seqs().last(), Some(&1_004));
    drop(opened);

    // The head stays the same even if no entry is left.
    let mut store = Store::open(&dir.path().join("log.sqlite3")).unwrap();
    store.connection.execute_batch("DELETE FROM entries").unwrap();
    meta::set(&store.connection, meta::TRIMMED_THROUGH, "1004").unwrap();
    store.empty_wal().unwrap();
    drop(store);
    let (log, kept) = start(dir.path());
    assert!(kept.seqs().is_empty());
    assert_eq!(append(&log, broadcast("x")).await, 1_005);
}

#[tokio::test]
async fn what_is_too_much_goes_and_files_stay_small() {
    const SIZE: u64 = 2 << 20;
    let dir = TempDir::new().unwrap();
    let (log, applied) = start_with(dir.path(), Duration::MAX, SIZE);
    let text = "x".repeat(10_000);
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let (mut file, mut wal_file) = (0, 0);
    for _ in 0..100 {
        let appends: Vec<_> =
            (0..20).map(|_| log.append(broadcast(&text), AppendContext::default())).collect();
        for append in appends {
            append.await.unwrap();
        }
        file = file.max(length(&dir.path().join("log.sqlite3")));
        wal_file = wal_file.max(length(&wal(dir.path())));
    }
    drop(log);
    // The test has appended 20 MB in all.
    assert!(file < 2 * SIZE, "{file}");
    assert!(wal_file < 16 << 20, "{wal_file}");
    let kept = left_in(dir.path());
    assert!(kept.len() > 100, "{}", kept.len());
    assert!(kept.len() as u64 * 10_000 <= SIZE + (1 << 20), "{}", kept.len());
    assert_eq!(kept, applied.all()[2_000 - kept.len()..]);
    let checked = check(dir.path(), None).unwrap().unwrap();
    assert_eq!((checked.entries, checked.last.unwrap().0), (kept.len() as u64, 2_000));
}

#[test]
fn an_id_key_belongs_to_its_entries() {
    let dir = TempDir::new().unwrap();
    let open = || OpenedDatabase::open(dir.path()).unwrap();
    let made = open().id_key(None).unwrap().fingerprint();
    assert_eq!(open().id_key(None).unwrap().fingerprint(), made);
    // A log without entries accepts another key.
    let elsewhere = dir.path().join("elsewhere");
    let other = open().id_key(Some(&elsewhere)).unwrap().fingerprint();
    assert_ne!(other, made);
    fs::rename(&elsewhere, dir.path().join("id.key")).unwrap();
    open().id_key(None).unwrap();

    let (log, _) = start(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(append(&log, broadcast("x")));
    drop(log);
    assert_eq!(open().id_key(None).unwrap().fingerprint(), other);
    let wrong = dir.path().join("wrong");
    IdKey::load_or_create(&wrong).unwrap();
    let error = open().id_key(Some(&wrong)).unwrap_err().to_string();
    assert!(error.contains(&other) && error.contains("--id-key-file"), "{error}");
    // No new key file is created in place of the missing one.
    fs::remove_file(dir.path().join("id.key")).unwrap();
    let error = open().id_key(None).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains(&other), "{error}");
    assert!(!dir.path().join("id.key").exists());
}

/// Every batch is full. If a step of trimming deleted less than a batch adds, the log would grow
/// for as long as this test appends.
#[tokio::test]
async fn trimming_keeps_up_with_whoever_never_waits() {
    const SIZE: u64 = 4 << 20;
    let dir = TempDir::new().unwrap();
    let (log, _) = start_with(dir.path(), Duration::MAX, SIZE);
    let entry = broadcast(&"x".repeat(900));
    for _ in 0..20 {
        let appending: Vec<_> =
            (0..2_000).map(|_| log.append(entry.clone(), AppendContext::default())).collect();
        for appending in appending {
            appending.await.unwrap();
        }
    }
    // The test has appended 36 MB in all. The log may hold its size limit, one batch above it, and
    // the WAL between two checkpoints.
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let size = length(&dir.path().join("log.sqlite3")) + length(&wal(dir.path()));
    assert!(size < 4 * SIZE, "{size} bytes");
}
