//! The server is killed with `kill -9`.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use testkit::Process;

use super::load::{Load, Otherwise, Told, kept, verify};
use super::{arguments, random, start};
use crate::harness::{EVERYTHING_OPEN, program};
use crate::manager::Given;

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    killed_under_load(3, 8, 200).await;
}

async fn killed_under_load(times: usize, publishers: usize, messages: u64) {
    let dir = TempDir::new().unwrap();
    let mut server = start(dir.path());
    let mut load = Load::begin(server.address, publishers, Otherwise::Again);
    for _ in 0..times {
        load.acknowledged(messages + random(messages)).await;
        server.signal(Signal::KILL);
        server.ended().await;
        server = start(dir.path());
        load.moved(server.address);
    }
    load.acknowledged(messages).await;
    let said = load.quiet().await;
    assert!(said.iter().all(|(_, told)| matches!(told, Told::Seq(_))));
    let kept = kept(server.address).await;
    verify(&said, &kept);
    assert_eq!(said.len(), kept.len());
    // The listener got every message once, across all kills.
    let heard = load.heard(kept.last().unwrap().0).await;
    assert!(heard == kept, "heard {} of {}", heard.len(), kept.len());
    assert!(good(dir.path()), "beside the running server");
}

fn good(dir: &std::path::Path) -> bool {
    let output = program().arg("check").args(arguments(dir)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "");
    output.status.success()
}

#[tokio::test]
async fn a_server_killed_at_any_moment_of_its_life_starts_again() {
    killed_at_random(20).await;
}

/// Kills the server at random moments: while it creates its directory, key and database, while it
/// reads the log, under load, and while it stops.
async fn killed_at_random(times: usize) {
    const LIVES: usize = 5;
    for _ in 0..times / LIVES {
        let (dir, given) = (TempDir::new().unwrap(), Given::new());
        let mut load = Load::begin(given.address(), 4, Otherwise::Again);
        for life in 0..LIVES {
            let server = given.start(&[], &arguments(dir.path()));
            // The first server usually dies before it has accepted a message. Later ones die right
            // after an acknowledgement or in the middle of an action.
            let after = match if life == 0 { 0 } else { random(5) } {
                0 => 60_000,
                1 => {
                    load.acknowledged(1 + random(30)).await;
                    server.signal(Signal::TERM);
                    5_000
                }
                kind => {
                    load.acknowledged(1 + random(100)).await;
                    if kind == 2 { 5_000 } else { 0 }
                }
            };
            if after > 0 {
                tokio::time::sleep(Duration::from_micros(random(after))).await;
            }
            // Dropping the server kills it, unless it has ended already.
            drop(server);
            assert!(good(dir.path()));
        }
        let _server = given.start(&[], &arguments(dir.path()));
        load.acknowledged(1).await;
        let said = load.quiet().await;
        assert!(said.iter().all(|(_, told)| matches!(told, Told::Seq(_))));
        let kept = kept(given.address()).await;
        verify(&said, &kept);
        assert_eq!(said.len(), kept.len());
        assert!(load.heard(kept.last().unwrap().0).await == kept);
    }
}

/// The key and the database are complete before the first message is published.
#[tokio::test]
async fn a_server_killed_at_its_first_start_starts_again() {
    for _ in 0..10 {
        let dir = TempDir::new().unwrap();
        for _ in 0..2 {
            let mut command = program();
            command.args(["--listen", "127.0.0.1:0", "--admin", "off"]).args(EVERYTHING_OPEN);
            command.args(arguments(dir.path()));
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let server = Process::start(command);
            tokio::time::sleep(Duration::from_micros(random(60_000))).await;
            drop(server);
            assert!(good(dir.path()));
        }
        let server = start(dir.path());
        assert_eq!(kept(server.address).await.len(), 0);
    }
}

mod soak {
    #[tokio::test]
    async fn killed_twenty_times_under_load() {
        super::killed_under_load(20, 32, 3_000).await;
    }

    #[tokio::test]
    async fn killed_at_two_hundred_moments() {
        super::killed_at_random(200).await;
    }
}
