//! The log on a real disk, with a stand-in for the hub.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::id::{Address, Tag};
use crate::log::{Appended, Applied, Body, Mark};
use crate::protocol::{Message, Mid};

/// Remembers what was applied.
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

    fn apply(&self, seq: u64, entry: &Entry) -> Appended {
        self.0.lock().push((seq, entry.clone()));
        Ok(Applied { seq, clients: 0, stored: false, duplicate: false })
    }
}

pub(super) fn broadcast(text: &str) -> Entry {
    let body = Body::Broadcast(Message::kept(format!("{text:?}").into()));
    let tag = Tag::parse("t").unwrap();
    Entry { tag, body, at: 1, expires: None, mid: None, append: None, origin: None }
}

fn start(dir: &Path) -> (SqliteLog, Arc<Applies>) {
    start_with(dir, Duration::MAX, u64::MAX)
}

fn start_with(dir: &Path, retention: Duration, size: u64) -> (SqliteLog, Arc<Applies>) {
    let opened = Opened::open(dir).unwrap();
    let sink = Arc::new(Applies::default());
    assert_eq!(opened.replay(&*sink, &|| false).unwrap(), Replayed::Whole);
    (opened.start(Arc::clone(&sink) as _, retention, size).unwrap(), sink)
}

/// What a log holds that has been left.
fn left_in(dir: &Path) -> Vec<(u64, Entry)> {
    let sink = Applies::default();
    Opened::open(dir).unwrap().replay(&sink, &|| false).unwrap();
    sink.all()
}

async fn append(log: &SqliteLog, entry: Entry) -> u64 {
    log.append(entry).await.unwrap().seq
}

fn wal(dir: &Path) -> PathBuf {
    dir.join("log.sqlite3-wal")
}

#[tokio::test]
async fn entries_come_back_as_they_were() {
    let dir = TempDir::new().unwrap();
    let address = Address::from_bytes([7; 32]);
    let message = Message::kept(r#"{"text":"Übung\u0000 \"☂\"","n":1.50}"#.into());
    let with = |body: Body| Entry { body, ..broadcast("") };
    let entries = [
        broadcast(&"long".repeat(15_000)),
        Entry { tag: Tag::parse("other").unwrap(), ..broadcast("") },
        with(Body::Direct(address, message)),
        with(Body::Read(address, Mark::UpTo(u64::MAX))),
        with(Body::Read(address, Mark::Only([1, 2, u64::MAX].into()))),
        with(Body::Read(address, Mark::Only([].into()))),
        with(Body::Drop(address)),
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
                // None is awaited before the next.
                let appends =
                    (0..200).map(|number| log.append(broadcast(&format!("{publisher} {number}"))));
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
        assert_eq!(entry.body.message().unwrap().as_json(), text);
    }
    assert_eq!(applied.seqs(), (1..=1_600).collect::<Vec<_>>());
    assert_eq!(left_in(dir.path()), applied.all());
    for publisher in 0..8 {
        let begin = format!("\"{publisher} ");
        let kept = applied.all();
        let own = kept
            .iter()
            .filter_map(|(_, entry)| entry.body.message().unwrap().as_json().strip_prefix(&begin));
        let numbers: Vec<u32> =
            own.map(|number| number.trim_end_matches('"').parse().unwrap()).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_order_and_the_epoch_go_on_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let epoch = Opened::open(dir.path()).unwrap().epoch().to_owned();
    for round in 0..3u64 {
        let (log, applied) = start(dir.path());
        assert_eq!(applied.seqs(), (1..=round * 2).collect::<Vec<_>>());
        assert_eq!(append(&log, broadcast("a")).await, round * 2 + 1);
        assert_eq!(append(&log, broadcast("b")).await, round * 2 + 2);
    }
    assert_eq!(Opened::open(dir.path()).unwrap().epoch(), epoch);
    let (old, new) = new_epoch(dir.path()).unwrap();
    assert_eq!(old.as_deref(), Some(&*epoch));
    assert_ne!(new, epoch);
    assert_eq!(Opened::open(dir.path()).unwrap().epoch(), new);
    assert_eq!(left_in(dir.path()).len(), 6);
    assert!(new_epoch(&dir.path().join("nothing")).is_err());
}

#[tokio::test]
async fn reading_can_be_stopped() {
    let dir = TempDir::new().unwrap();
    let (log, _) = start(dir.path());
    let appends: Vec<_> = (0..3_000).map(|_| log.append(broadcast("x"))).collect();
    for append in appends {
        append.await.unwrap();
    }
    drop(log);
    let sink = Applies::default();
    let opened = Opened::open(dir.path()).unwrap();
    assert_eq!(opened.replay(&sink, &|| true).unwrap(), Replayed::InPart);
    assert!(sink.seqs().len() < 3_000);
}

#[tokio::test]
async fn what_is_too_old_goes_and_the_order_does_not_begin_anew() {
    let dir = TempDir::new().unwrap();
    let day = 24 * 60 * 60 * 1000;
    let now = crate::publish::now_ms();
    let (log, _) = start_with(dir.path(), Duration::from_millis(2 * day), u64::MAX);
    let aged = |days| Entry { at: now - days * day, ..broadcast("x") };
    // The first is too young to go, and entries go in order only.
    let first: Vec<_> =
        [1, 9, 9].into_iter().chain([3; 1_000]).map(|days| log.append(aged(days))).collect();
    for append in first {
        append.await.unwrap();
    }
    drop(log);
    assert_eq!(left_in(dir.path()).len(), 1_003);

    // By the newest entry's time, but the wall clock has passed it too.
    let opened = Opened::open(dir.path()).unwrap();
    assert_eq!((opened.floor(), opened.head), (0, 1_003));
    drop(opened);
    let retention = Duration::from_millis(day / 2);
    let (log, _) = start_with(dir.path(), retention, u64::MAX);
    append(&log, aged(0)).await;
    drop(log);
    let (log, kept) = start_with(dir.path(), retention, u64::MAX);
    drop(log);
    // Looked at when idle or after an append, all of them by now.
    let opened = Opened::open(dir.path()).unwrap();
    assert!(opened.floor() >= 256, "{}", opened.floor());
    assert_eq!(kept.seqs().last(), Some(&1_004));
    drop(opened);

    // Even if nothing is left.
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
        let appends: Vec<_> = (0..20).map(|_| log.append(broadcast(&text))).collect();
        for append in appends {
            append.await.unwrap();
        }
        file = file.max(length(&dir.path().join("log.sqlite3")));
        wal_file = wal_file.max(length(&wal(dir.path())));
    }
    drop(log);
    // 20 MB went through.
    assert!(file < 2 * SIZE, "{file}");
    assert!(wal_file < 16 << 20, "{wal_file}");
    let kept = left_in(dir.path());
    assert!(kept.len() > 100, "{}", kept.len());
    assert!(kept.len() as u64 * 10_000 <= SIZE + (1 << 20), "{}", kept.len());
    assert_eq!(kept, applied.all()[2_000 - kept.len()..]);
    let checked = check(dir.path()).unwrap().unwrap();
    assert_eq!((checked.entries, checked.last.unwrap().0), (kept.len() as u64, 2_000));
}

#[test]
fn an_id_key_belongs_to_its_entries() {
    let dir = TempDir::new().unwrap();
    let open = || Opened::open(dir.path()).unwrap();
    let made = open().id_key(None).unwrap().fingerprint();
    assert_eq!(open().id_key(None).unwrap().fingerprint(), made);
    // Without entries another key is fine.
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
    // None is made in place of the one that is missing.
    fs::remove_file(dir.path().join("id.key")).unwrap();
    let error = open().id_key(None).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains(&other), "{error}");
    assert!(!dir.path().join("id.key").exists());
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_found() {
    let dir = TempDir::new().unwrap();
    assert!(check(dir.path()).unwrap().is_none());
    let (log, _) = start(dir.path());
    for _ in 0..5 {
        append(&log, broadcast("a secret of somebody's")).await;
    }
    let checked = check(dir.path()).unwrap().unwrap();
    assert_eq!((checked.entries, checked.in_use.is_some()), (5, true), "beside a running server");
    drop(log);
    let checked = check(dir.path()).unwrap().unwrap();
    assert_eq!((checked.first, checked.last), (Some((1, 1)), Some((5, 1))));
    assert!(checked.in_use.is_none() && checked.epoch.is_some());

    let file = dir.path().join("log.sqlite3");
    let good = fs::read(&file).unwrap();
    for (harm, words) in [
        ("DELETE FROM entries WHERE seq IN (2, 3)", "entries 2 to 3 are missing"),
        ("DELETE FROM entries WHERE seq = 1", "entries 1 to 1 are missing"),
        ("UPDATE entries SET tag = 'not a tag' WHERE seq = 4", "the tag of entry 4"),
        ("UPDATE entries SET kind = 9 WHERE seq = 4", "the kind of entry 4"),
        ("UPDATE entries SET address = x'00' WHERE seq = 4", "the address of entry 4"),
        ("UPDATE entries SET body = x'00' WHERE seq = 4", "the message of entry 4"),
        ("INSERT INTO meta VALUES ('trimmed_through', 'x')", "trimmed_through is damaged"),
        ("PRAGMA user_version = 99", "version 99"),
    ] {
        fs::write(&file, &good).unwrap();
        let _ = fs::remove_file(wal(dir.path()));
        rusqlite::Connection::open(&file).unwrap().execute_batch(harm).unwrap();
        let error = check(dir.path()).unwrap_err();
        assert!(error.to_string().contains(words), "{harm}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.exit_code(), shared::exit::DATA);
        let started = Opened::open(dir.path())
            .and_then(|opened| opened.replay(&Applies::default(), &|| false));
        assert!(started.unwrap_err().to_string().contains(words), "{harm}");
    }
    // Bytes of a page.
    let mut bad = good.clone();
    let place = bad.windows(9).position(|bytes| bytes == b"somebody'").unwrap();
    let page = place / 4096 * 4096;
    bad[page..page + 64].fill(0xa5);
    fs::write(&file, &bad).unwrap();
    let _ = fs::remove_file(wal(dir.path()));
    let error = check(dir.path()).unwrap_err();
    assert!(error.to_string().contains("restore a backup"), "{error}");
    assert_eq!(error.exit_code(), shared::exit::DATA);
}

/// What a power cut may leave of the last writes: a shorter WAL, or other bytes in it.
#[derive(Debug, Clone)]
enum Cut {
    Short(prop::sample::Index),
    Garbled(prop::sample::Index, u8),
    Zeroed(prop::sample::Index),
}

fn cuts() -> impl Strategy<Value = Cut> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Cut::Short),
        (index(), 1u8..).prop_map(|(at, flip)| Cut::Garbled(at, flip)),
        index().prop_map(Cut::Zeroed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Everything that was synced before the damage is there, and nothing else.
    #[test]
    fn a_damaged_tail_costs_the_tail_only(
        sizes in prop::collection::vec(1usize..6_000, 1..30),
        cut in cuts(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        let (log, applied) = start(dir.path());
        // The length of the WAL after each entry's sync.
        let mut synced = Vec::new();
        for size in sizes {
            runtime.block_on(append(&log, broadcast(&"x".repeat(size))));
            synced.push(fs::metadata(wal(dir.path())).unwrap().len());
        }
        let after = TempDir::new().unwrap();
        let file = after.path().join("log.sqlite3");
        fs::copy(dir.path().join("log.sqlite3"), &file).unwrap();
        let mut bytes = fs::read(wal(dir.path())).unwrap();
        let place = match cut {
            Cut::Short(at) => {
                let at = at.index(bytes.len());
                bytes.truncate(at);
                at
            }
            Cut::Garbled(at, flip) => {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                at
            }
            Cut::Zeroed(at) => {
                let at = at.index(bytes.len());
                bytes[at..].fill(0);
                at
            }
        };
        fs::write(wal(after.path()), &bytes).unwrap();
        let whole = synced.iter().filter(|length| **length <= place as u64).count();
        // The schema itself may be in the WAL, and a cut of that leaves a new log.
        let kept = left_in(after.path());
        prop_assert!(kept.len() >= whole, "{} of {whole}", kept.len());
        prop_assert_eq!(&kept[..], &applied.all()[..kept.len()]);
        prop_assert!(kept.len() <= whole + 1 || matches!(cut, Cut::Garbled(..) | Cut::Zeroed(_)));

        // And it goes on.
        let (log, _) = start(after.path());
        let next = kept.len() as u64 + 1;
        prop_assert_eq!(runtime.block_on(append(&log, broadcast("next"))), next);
        drop(log);
        prop_assert_eq!(left_in(after.path()).len() as u64, next);
        check(after.path()).unwrap();
    }
}
