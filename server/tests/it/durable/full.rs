//! A full disk. The test runs in a mount namespace of its own, on a file system of a few megabytes.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use testkit::namespace::Namespace;

use super::load::{Told, kept, verify};
use super::{TAG, arguments, start};
use crate::harness::program;

/// The environment variable that tells the test that it runs inside the namespace. Its value is the
/// directory of the small file system.
const INSIDE: &str = "SERVER_TEST_SMALL_DISK";

const PREPARE: &str = "mount -t tmpfs -o size=24m,mode=700 none \"$SERVER_TEST_SMALL_DISK\"";

#[test]
fn a_full_disk_refuses_truly_and_goes_on_when_there_is_room() {
    if let Some(disk) = std::env::var_os(INSIDE) {
        tokio::runtime::Runtime::new().unwrap().block_on(fill(Path::new(&disk)));
        return;
    }
    let disk = TempDir::new().unwrap();
    let namespace = Namespace {
        kind: "--mount",
        prepare: PREPARE,
        inside: (INSIDE, disk.path().as_ref()),
        needs: "a mount namespace of its own (root or unprivileged user namespaces)",
    };
    namespace.run_again("durable::full::a_full_disk_refuses_truly_and_goes_on_when_there_is_room");
}

async fn fill(disk: &Path) {
    let server = start(disk);
    let ballast = disk.join("ballast");
    let mut said = Vec::new();
    let padding = "x".repeat(20_000);
    for round in 0..3 {
        fill_up(&ballast, 1 << 20);
        // Publishes until the disk is full and 20 messages were refused. Half of these are small,
        // because small messages may find room where large ones do not.
        let mut full = 0;
        while full < 20 {
            let small = full % 2 == 1;
            let text = format!("{round}-{}-{}", said.len(), if small { "" } else { &padding });
            let message = json!({"action": "broadcast", "tag": TAG, "message": text});
            let (status, reply) = server.post(&message).await;
            let told = match status {
                200 => Told::Seq(reply["seq"].as_u64().unwrap()),
                503 => {
                    assert_eq!(
                        (&reply["error"], &reply["outcome"]),
                        (&json!("unavailable"), &json!("refused"))
                    );
                    full += 1;
                    Told::Refused
                }
                _ => panic!("{status}: {reply}"),
            };
            said.push((text, told));
        }
        assert!(String::from_utf8_lossy(&check(disk)).contains("undamaged"));
        // The server accepts messages again as soon as the disk has room.
        std::fs::remove_file(&ballast).unwrap();
        let text = format!("{round}-{}-", said.len());
        let message = json!({"action": "broadcast", "tag": TAG, "message": text});
        let (status, reply) = server.post(&message).await;
        assert_eq!(status, 200, "{reply}");
        said.push((text, Told::Seq(reply["seq"].as_u64().unwrap())));
    }
    let number = |said: &(String, Told)| {
        let mut parts = said.0.splitn(3, '-');
        format!("{}-{}", parts.next().unwrap(), parts.next().unwrap())
    };
    let said: Vec<_> = said.iter().map(|said| (number(said), said.1)).collect();
    let short = |kept: Vec<(u64, String)>| -> Vec<(u64, String)> {
        kept.into_iter().map(|(seq, text)| (seq, number(&(text, Told::Unknown)))).collect()
    };
    verify(&said, &short(kept(server.address).await));
    server.signal(Signal::KILL);
    let log = server.ended().await.output;
    // The line is logged once for each time that the disk is full, not for each message.
    let begun = log.matches("the log cannot be written").count();
    let over = log.matches("the log can be written again").count();
    assert!((1..=3).contains(&begun) && over + 1 >= begun && over <= begun, "{log}");

    // If the disk has no room at all, the server refuses to start.
    fill_up(&ballast, 0);
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--admin", "off"])
        .args(arguments(disk))
        .args(["--data", disk.join("new").to_str().unwrap()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    std::fs::remove_file(&ballast).unwrap();
    let server = start(disk);
    verify(&said, &short(kept(server.address).await));
}

/// Fills the file system until only `left` bytes are free.
fn fill_up(ballast: &Path, left: u64) {
    let _ = std::fs::write(ballast, vec![0; 64 << 20]);
    let file = std::fs::File::options().write(true).open(ballast).unwrap();
    file.set_len(file.metadata().unwrap().len() - left).unwrap();
}

fn check(dir: &Path) -> Vec<u8> {
    let output = program().arg("check").args(arguments(dir)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
