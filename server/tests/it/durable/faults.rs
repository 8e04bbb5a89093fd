//! A disk whose writes and syncs fail: what senders are told is true.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::load::{Load, Otherwise, Told, kept, verify};
use super::{arguments, start};
use crate::harness::Server;
use crate::metrics::metrics;

/// A library that takes the place of the C library's own calls. What SQLite is compiled with
/// compiles it too.
fn library(dir: &Path) -> PathBuf {
    let library = dir.join("faults.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/durable/faults.c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([library.as_os_str(), source.as_ref()])
        .output()
        .expect("this test needs a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

struct Faults {
    dir: TempDir,
    server: Server,
    load: Load,
}

impl Faults {
    fn begin(publishers: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let arguments = arguments(dir.path());
        let library = library(dir.path());
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
            ("FAULTS", dir.path().join("faults").to_str().unwrap().to_owned()),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let server = Server::start_with(&environment, &arguments);
        let load = Load::begin(server.address, publishers, Otherwise::Next);
        Self { dir, server, load }
    }

    /// From here on so many of a thousand calls fail.
    fn fail(&self, writes: u32, syncs: u32) {
        let new = self.dir.path().join("faults.new");
        std::fs::write(&new, format!("{writes} {syncs}")).unwrap();
        std::fs::rename(new, self.dir.path().join("faults")).unwrap();
    }

    fn heal(&self) {
        std::fs::remove_file(self.dir.path().join("faults")).unwrap();
    }

    /// Kills the server and looks what is there. How many were refused, and of how many nothing
    /// was promised.
    async fn end(mut self) -> (usize, usize) {
        let said = self.load.quiet().await;
        self.server.signal(Signal::KILL);
        let log = self.server.ended().await.output;
        let server = start(self.dir.path());
        self.load.moved(server.address);
        let kept = kept(server.address).await;
        verify(&said, &kept);
        assert!(self.load.heard(kept.last().unwrap().0).await == kept);
        let troubles = log.matches("the log cannot be written").count();
        assert!(troubles > 0 && troubles <= log.matches("can be written again").count() + 1);
        let told = |what| said.iter().filter(|(_, told)| *told == what).count();
        (told(Told::Refused), told(Told::Unknown))
    }
}

#[tokio::test]
async fn appends_are_counted_by_what_senders_are_told() {
    let dir = TempDir::new().unwrap();
    let (arguments, library) = (arguments(dir.path()), library(dir.path()));
    let faults = dir.path().join("faults");
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
        ("FAULTS", faults.to_str().unwrap().to_owned()),
    ];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let server = Server::start_with(&environment, &arguments);
    let message = json!({"action": "broadcast", "tag": super::TAG, "message": 1});
    assert_eq!(server.post(&message).await.0, 200);
    // Every sync fails: of the first nobody can tell, and the log cannot be read anew after it.
    std::fs::write(&faults, "0 1000").unwrap();
    for outcome in ["unknown", "refused"] {
        assert_eq!(server.post(&message).await.1["outcome"], outcome);
    }
    let now = metrics(server.admin).await;
    for outcome in ["ok", "refused", "unknown"] {
        let name = format!("server_log_appends_total{{outcome=\"{outcome}\"}}");
        assert_eq!(now[&name], 1.0, "{name}");
    }
    assert_eq!(now["server_errors_total{code=\"unavailable\"}"], 2.0);
}

#[tokio::test]
async fn every_sync_fails_for_a_while() {
    let faults = Faults::begin(4);
    faults.load.acknowledged(50).await;
    faults.fail(0, 1000);
    faults.load.answered(50).await;
    faults.heal();
    faults.load.acknowledged(50).await;
    faults.end().await;
}

#[tokio::test]
async fn a_server_is_killed_while_every_sync_fails() {
    let faults = Faults::begin(4);
    faults.load.acknowledged(50).await;
    faults.fail(0, 1000);
    faults.load.answered(50).await;
    faults.end().await;
}

#[tokio::test]
async fn every_write_fails_for_a_while() {
    let faults = Faults::begin(4);
    faults.load.acknowledged(50).await;
    faults.fail(1000, 0);
    faults.load.answered(50).await;
    faults.heal();
    faults.load.acknowledged(50).await;
    faults.end().await;
}

#[tokio::test]
async fn writes_and_syncs_fail_now_and_then() {
    at_random(4, 150).await;
}

async fn at_random(rounds: usize, answers: u64) {
    let faults = Faults::begin(8);
    for round in 0..rounds {
        let (writes, syncs) = [(20, 200), (0, 400), (100, 0), (5, 5)][round % 4];
        faults.fail(writes, syncs);
        faults.load.answered(answers).await;
        faults.heal();
        faults.load.acknowledged(50).await;
    }
    let (refused, unknown) = faults.end().await;
    assert!(refused + unknown > 0, "nothing has failed");
}

mod soak {
    #[tokio::test]
    async fn writes_and_syncs_fail_for_long() {
        for _ in 0..5 {
            super::at_random(20, 1_000).await;
        }
    }
}
