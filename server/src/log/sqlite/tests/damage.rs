//! Tests with database files that were damaged after they were written.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn what_is_damaged_or_missing_is_found() {
    let dir = TempDir::new().unwrap();
    assert!(check(dir.path(), None).unwrap().is_none());
    let (log, _) = start(dir.path());
    for _ in 0..5 {
        append(&log, broadcast("a secret of somebody's")).await;
    }
    let checked = check(dir.path(), None).unwrap().unwrap();
    assert_eq!((checked.entries, checked.in_use.is_some()), (5, true), "beside a running server");
    drop(log);
    let checked = check(dir.path(), None).unwrap().unwrap();
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
        let error = check(dir.path(), None).unwrap_err();
        assert!(error.to_string().contains(words), "{harm}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.exit_code(), shared::exit::DATA);
        let started = OpenedDatabase::open(dir.path())
            .and_then(|opened| opened.replay(&Applies::default(), &|| false));
        assert!(started.unwrap_err().to_string().contains(words), "{harm}");
    }
    // Overwrites 64 bytes of a page.
    let mut bad = good;
    let place = bad.windows(9).position(|bytes| bytes == b"somebody'").unwrap();
    let page = place / 4096 * 4096;
    bad[page..page + 64].fill(0xa5);
    fs::write(&file, &bad).unwrap();
    let _ = fs::remove_file(wal(dir.path()));
    let error = check(dir.path(), None).unwrap_err();
    assert!(error.to_string().contains("restore a backup"), "{error}");
    assert_eq!(error.exit_code(), shared::exit::DATA);
}

/// What a power cut may do to the last writes: the WAL is shorter, or has other bytes.
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

    /// Every entry that was synced before the damaged place is there, and nothing else.
    #[test]
    fn a_damaged_tail_costs_the_tail_only(
        sizes in prop::collection::vec(1usize..6_000, 1..30),
        cut in cuts(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        let (log, applied) = start(dir.path());
        // The length of the WAL after the sync of each entry.
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
        // The schema may be in the WAL too; if it is cut off, a new log begins.
        let kept = left_in(after.path());
        prop_assert!(kept.len() >= whole, "{} of {whole}", kept.len());
        prop_assert_eq!(&kept[..], &applied.all()[..kept.len()]);
        prop_assert!(kept.len() <= whole + 1 || matches!(cut, Cut::Garbled(..) | Cut::Zeroed(_)));

        // The damaged log still takes appends.
        let (log, _) = start(after.path());
        let next = kept.len() as u64 + 1;
        prop_assert_eq!(runtime.block_on(append(&log, broadcast("next"))), next);
        drop(log);
        prop_assert_eq!(left_in(after.path()).len() as u64, next);
        check(after.path(), None).unwrap();
    }
}
