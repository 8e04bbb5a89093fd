//! Tests SIGTERM under load.

use rustix::process::Signal;
use tempfile::TempDir;

use super::load::{Load, Otherwise, kept, verify};
use super::{arguments, random, start};
use crate::harness::program;
use crate::manager::Given;

#[tokio::test]
async fn restarts_under_load_lose_nothing_and_refuse_nobody() {
    let dir = TempDir::new().unwrap();
    let given = Given::new();
    let address = given.address();
    let mut server = given.start(&[], &arguments(dir.path()));
    let mut load = Load::begin(address, 8, Otherwise::Again);
    for _ in 0..3 {
        load.acknowledged(100 + random(200)).await;
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        // After an orderly end the whole log is in one file.
        assert!(!dir.path().join("data/log.sqlite3-wal").exists());
        server = given.start(&[], &arguments(dir.path()));
    }
    load.acknowledged(100).await;
    let said = load.quiet().await;
    let kept = kept(address).await;
    verify(&said, &kept);
    assert_eq!(said.len(), kept.len());
    assert_eq!(load.refused(), 0);
    assert!(load.heard(kept.last().unwrap().0).await == kept);
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let server = start(dir.path());
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--admin", "off", "--log", "error"])
        .args(arguments(dir.path()))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{errors}");
    let data = dir.path().join("data");
    assert!(errors.contains(data.to_str().unwrap()) && errors.contains("process "), "{errors}");
    assert_eq!(errors.lines().count(), 1);
    // The first server is not affected.
    assert_eq!(kept(server.address).await.len(), 0);
    server.stop().await;
    start(dir.path());
}
