//! A disk whose writes and syncs fail. Senders get true answers all the same.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::files::make_fifo;
use testkit::preload;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::load::{Load, Otherwise, Told, kept, verify};
use super::{arguments, start};
use crate::harness::{Server, post_head, request};
use crate::metrics::{metrics, until};
use crate::stopping::stops_in_time;

/// Starts a server with the library of `faults.c`, which makes disk calls fail. The library reads
/// from the returned file how many calls fail.
fn start_faulty(dir: &Path) -> (Server, PathBuf) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/durable/faults.c");
    let (arguments, faults) = (arguments(dir), dir.join("faults"));
    let library = preload::compile(source, dir);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let environment = [("LD_PRELOAD", text(&library)), ("FAULTS", text(&faults))];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    (Server::start_with(&environment, &arguments), faults)
}

/// Waits until the server is about to write to its disk. `faults` is a named pipe, and opening one
/// end of a pipe waits for the other end. The server then waits until the test writes to the pipe
/// or closes it.
async fn disk_is_reached(faults: &Path) -> File {
    let faults = faults.to_owned();
    let opening = tokio::task::spawn_blocking(|| File::options().write(true).open(faults).unwrap());
    opening.await.unwrap()
}

struct Faults {
    dir: TempDir,
    server: Server,
    load: Load,
}

impl Faults {
    fn begin(publishers: usize) -> Self {
        let dir = TempDir::new().unwrap();
        let (server, _) = start_faulty(dir.path());
        let load = Load::begin(server.address, publishers, Otherwise::Next);
        Self { dir, server, load }
    }

    /// From now on, `writes` of each thousand writes fail, and `syncs` of each thousand syncs.
    fn fail(&self, writes: u32, syncs: u32) {
        let new = self.dir.path().join("faults.new");
        std::fs::write(&new, format!("{writes} {syncs}")).unwrap();
        std::fs::rename(new, self.dir.path().join("faults")).unwrap();
    }

    fn heal(&self) {
        std::fs::remove_file(self.dir.path().join("faults")).unwrap();
    }

    /// Kills the server and compares its log with what senders were told. Returns how many outcomes
    /// were `refused`, and how many `unknown`.
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
    let (server, faults) = start_faulty(dir.path());
    let message = json!({"action": "broadcast", "tag": super::TAG, "message": 1});
    assert_eq!(server.post(&message).await.0, 200);
    // Every sync fails. The outcome of the first message is unknown, and then the server cannot
    // read the log again.
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
async fn what_waits_for_the_disk_is_told() {
    let dir = TempDir::new().unwrap();
    let (server, faults) = start_faulty(dir.path());
    let mut client = server.connect().await;
    let message = json!({"action": "broadcast", "tag": super::TAG, "message": "x".repeat(1_000)});
    make_fifo(&faults);
    client.send(&message).await;
    // From now on the first entry waits for the disk. It is the only one.
    let mut disk = disk_is_reached(&faults).await;
    client.send_at_once([&message, &message, &message].map(Value::clone)).await;
    let now = until(server.admin, "server_log_queue_entries", 3.0).await;
    let bytes = now["server_log_queue_bytes"];
    assert!((3_000.0..4_500.0).contains(&bytes), "{bytes}");
    assert_eq!(now["server_log_commit_seconds_count"], 0.0);

    std::fs::remove_file(&faults).unwrap();
    disk.write_all(b"0 0").unwrap();
    for _ in 0..4 {
        assert_eq!(client.next().await["ok"], "broadcast");
    }
    let now = metrics(server.admin).await;
    assert_eq!(now["server_log_queue_entries"], 0.0);
    assert_eq!(now["server_log_queue_bytes"], 0.0);
    // The waiting entries were written in one transaction.
    assert_eq!(now["server_log_commit_seconds_count"], 2.0);
}

#[tokio::test]
async fn senders_that_wait_for_the_disk_at_the_end_are_answered_and_heard() {
    let dir = TempDir::new().unwrap();
    let (server, faults) = start_faulty(dir.path());
    let mut listener = server.listener(super::TAG, None).await;
    let mut client = server.connect().await;
    let message = json!({"action": "broadcast", "tag": super::TAG, "message": "last"});
    make_fifo(&faults);
    client.send(&message).await;
    let mut disk = disk_is_reached(&faults).await;
    client.send_at_once(std::iter::repeat_n(message, 19)).await;
    until(server.admin, "server_log_queue_entries", 19.0).await;
    server.signal(Signal::TERM);
    // The server is already stopping while the disk still blocks.
    while request(server.admin, "GET /readyz", &[], b"").await.status == 200 {}
    std::fs::remove_file(&faults).unwrap();
    disk.write_all(b"0 0").unwrap();
    for number in 1..=20 {
        assert_eq!(client.next().await["seq"], number);
        assert_eq!(listener.message().await, "last");
    }
    for client in [&mut client, &mut listener] {
        assert_eq!(client.next().await["event"], "bye");
        assert_eq!(client.closed().await, Some(1001));
    }
    assert_eq!(server.ended().await.status.code(), Some(0));
}

/// The outcome of the entry whose write is blocked is unknown, so its sender gets no reply.
#[tokio::test]
async fn a_disk_that_never_goes_on_does_not_hold_up_the_end() {
    let dir = TempDir::new().unwrap();
    let (server, faults) = start_faulty(dir.path());
    let message = |text| json!({"action": "broadcast", "tag": super::TAG, "message": text});
    let mut senders = Vec::new();
    for name in ["0", "1", "2"] {
        let mut client = server.connect().await;
        assert_eq!(client.ask(&message(format!("{name}-0"))).await["ok"], "broadcast");
        senders.push((name, client));
    }
    make_fifo(&faults);
    senders[0].1.send(&message("0-1".into())).await;
    let _disk = disk_is_reached(&faults).await;
    for (name, client) in &mut senders[1..] {
        client.send(&message(format!("{name}-1"))).await;
    }
    until(server.admin, "server_log_queue_entries", 2.0).await;
    // A message that is posted over HTTP waits for the disk too. Its answer must not say that it
    // was stored or refused.
    let posted = json!([message("3-0".into())]).to_string();
    let address = server.address;
    let posting = tokio::spawn(async move {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all((post_head(posted.len()) + &posted).as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    });
    until(server.admin, "server_log_queue_entries", 3.0).await;
    let said = stops_in_time(server).await;
    assert!(said.contains("the disk stands still"), "{said}");

    let mut said: Vec<(String, Told)> =
        (0..3).map(|number| (format!("{number}-0"), Told::Seq(number + 1))).collect();
    for (name, client) in &mut senders {
        let told = match client.next_or_ended().await {
            Some(reply) => match (reply["seq"].as_u64(), reply["outcome"].as_str()) {
                (Some(seq), _) => Told::Seq(seq),
                (_, Some("refused")) => Told::Refused,
                (_, Some("unknown")) => Told::Unknown,
                _ => panic!("{reply}"),
            },
            None => Told::Unknown,
        };
        said.push((format!("{name}-1"), told));
    }
    let answer = posting.await.unwrap();
    assert!(!answer.contains("refused") && !answer.contains("\"seq\""), "{answer}");
    said.push(("3-0".into(), Told::Unknown));
    std::fs::remove_file(&faults).unwrap();
    let server = start(dir.path());
    verify(&said, &kept(server.address).await);
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
