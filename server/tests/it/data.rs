//! Tests the data directory from outside: restarts, keys, backups, sizes, checks and refusals.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ALICE, BOB, Server, program};

const KEY: &str = "data-key-0123456789abcdef";

/// Starts a server on which `send` to the tag shop is protected, so that the tag has inboxes.
fn start(dir: &Path, more: &[&str]) -> Server {
    fs::write(dir.join("key"), KEY).unwrap();
    let protect = format!("shop:send:{}", dir.join("key").display());
    let data = dir.join("data");
    let args = ["--data", data.to_str().unwrap(), "--protect", &protect];
    Server::start(&[&args, more].concat())
}

/// Starts a server that must refuse to start. Returns its exit code and its one line of error.
fn refused(dir: &Path, more: &[&str]) -> (Option<i32>, String) {
    let data = dir.join("data");
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--admin", "off", "--log", "off", "--data"])
        .arg(data)
        .args(more)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "one line of error: {errors}");
    (output.status.code(), errors)
}

fn run(command: &str, dir: &Path) -> Output {
    program().arg(command).arg("--data").arg(dir.join("data")).output().unwrap()
}

fn check(dir: &Path) -> String {
    let output = run("check", dir);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn to(id: &str, message: &Value, mid: &str) -> Value {
    json!({"action":"send","tag":"shop","id":id,"key":KEY,"message":message,"mid":mid})
}

async fn kill(server: Server) {
    server.signal(Signal::KILL);
    server.ended().await;
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let server = start(dir.path(), &[]);
    let (first, _, client) = server.come_back(ALICE, &Value::Null).await;
    drop(client);
    let at_first = json!({"epoch": first["epoch"], "seq": 0});
    for (id, message) in [(ALICE, "one"), (BOB, "bob's"), (ALICE, "two"), (ALICE, "three")] {
        let (status, reply) = server.post(&to(id, &json!(message), message)).await;
        assert_eq!((status, &reply["stored"]), (200, &json!(true)), "{reply}");
    }
    let broadcast = json!({"action":"broadcast","tag":"shop","message":"for all"});
    assert_eq!(server.post(&broadcast).await.0, 200);
    // One device marks a message as read before the server is killed.
    let (_, _, mut client) = server.come_back(ALICE, &Value::Null).await;
    let read = client.ask(&json!({"action":"read","tag":"shop","only":[1]})).await;
    assert_eq!(read["ok"], "read");
    kill(server).await;

    let server = start(dir.path(), &[]);
    let (reply, messages, _) = server.come_back(ALICE, &Value::Null).await;
    assert_eq!((&reply["epoch"], &reply["unread"]), (&first["epoch"], &json!([3, 4])));
    assert_eq!(messages, [json!("two"), json!("three")]);
    let (reply, messages, _) = server.come_back(ALICE, &at_first).await;
    assert_eq!(reply["recovered"], true);
    assert_eq!(messages, [json!("two"), json!("three"), json!("for all")]);
    let (_, messages, _) = server.come_back(BOB, &Value::Null).await;
    assert_eq!(messages, [json!("bob's")]);
    assert_eq!(server.stop().await.status.code(), Some(0));
    let server = start(dir.path(), &[]);
    assert_eq!(server.come_back(ALICE, &Value::Null).await.1.len(), 2);
    assert_eq!(server.status().await["log"], "sqlite");
}

#[tokio::test]
async fn a_retry_across_a_restart_is_delivered_once() {
    let dir = TempDir::new().unwrap();
    let cron = async |server: &Server, id: &str, text: &str| {
        let args = ["send", "--tag", "shop", "--id", id, "--mid", "order-77", "--to"];
        let (url, text) = (server.url(), text.to_owned());
        let mut command = program();
        command.args(args).arg(url).arg(text).env("TOCSIN_KEY", KEY);
        let output = testkit::output(command).await;
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), reply)
    };
    let server = start(dir.path(), &[]);
    let (code, first) = cron(&server, ALICE, "shipped").await;
    assert_eq!((code, &first["duplicate"]), (Some(0), &Value::Null));
    kill(server).await;
    let server = start(dir.path(), &[]);
    let (code, again) = cron(&server, ALICE, "shipped").await;
    assert_eq!((code, &again["duplicate"]), (Some(0), &json!(true)));
    assert_eq!(again["seq"], first["seq"]);
    // The same mid with another message for the same person is an error. The same mid for another
    // person is a new message.
    assert_eq!(cron(&server, ALICE, "cancelled").await.0, Some(65));
    assert_eq!(cron(&server, BOB, "shipped").await.1["duplicate"], Value::Null);
    for id in [ALICE, BOB] {
        assert_eq!(server.come_back(id, &Value::Null).await.1, [json!("shipped")]);
    }
    kill(server).await;
    let server = start(dir.path(), &[]);
    assert_eq!(server.come_back(ALICE, &Value::Null).await.1, [json!("shipped")]);
}

#[tokio::test]
async fn a_restored_backup_gets_a_new_epoch() {
    let dir = TempDir::new().unwrap();
    let server = start(dir.path(), &[]);
    let epoch = server.status().await["epoch"].clone();
    server.post(&to(ALICE, &json!("before"), "1")).await;
    let in_use = run("new-epoch", dir.path());
    assert_eq!(in_use.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&in_use.stderr).contains("in use"));
    // This is the backup command of docs/operations.md, used while the server runs.
    let backup = TempDir::new().unwrap();
    let file = |dir: &Path, name: &str| dir.join("data").join(name);
    fs::create_dir(backup.path().join("data")).unwrap();
    let copy = file(backup.path(), "log.sqlite3");
    rusqlite::Connection::open(file(dir.path(), "log.sqlite3"))
        .and_then(|log| log.execute("VACUUM INTO ?", [copy.to_str()]))
        .unwrap();
    fs::copy(file(dir.path(), "id.key"), file(backup.path(), "id.key")).unwrap();
    server.post(&to(ALICE, &json!("after the backup"), "2")).await;
    server.stop().await;

    let renamed = run("new-epoch", backup.path());
    assert_eq!(renamed.status.code(), Some(0));
    let words = String::from_utf8(renamed.stdout).unwrap();
    assert!(words.contains(&format!("(was {})", epoch.as_str().unwrap())), "{words}");
    let server = start(backup.path(), &[]);
    assert!(words.contains(server.status().await["epoch"].as_str().unwrap()));
    // This is the cursor of a client that has seen a message which the backup does not contain.
    let seen = json!({"epoch": epoch, "seq": 2});
    let (reply, messages, _) = server.come_back(ALICE, &seen).await;
    assert_eq!((&reply["recovered"], messages), (&json!(false), vec![json!("before")]));

    let nothing = TempDir::new().unwrap();
    assert_eq!(run("new-epoch", nothing.path()).status.code(), Some(65));
    assert!(!nothing.path().join("data").exists());
}

#[tokio::test]
async fn check_tells_what_there_is_and_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let text = check(dir.path());
    assert!(
        text.contains("none yet") && text.contains("does not exist; the first start"),
        "{text}"
    );
    assert!(!dir.path().join("data").exists(), "a check makes nothing");
    let server = start(dir.path(), &[]);
    for number in 0..3 {
        server.post(&to(ALICE, &json!(number), &number.to_string())).await;
    }
    let epoch = server.status().await["epoch"].as_str().unwrap().to_owned();
    let text = check(dir.path());
    for words in [
        "undamaged",
        "by process ",
        "entries  3\n",
        "seq 1, 20",
        "seq 3, 20",
        "version 1\n",
        &epoch,
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // The running server still accepts messages.
    assert_eq!(server.post(&to(ALICE, &json!(4), "4")).await.0, 200);
    kill(server).await;
    let text = check(dir.path());
    assert!(text.contains("entries  4\n") && !text.contains("in use"), "{text}");
    start(dir.path(), &[]).stop().await;
    assert!(check(dir.path()).contains("entries  4\n"));

    let file = dir.path().join("data/log.sqlite3");
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    let page = bad.len() - 4096;
    bad[page..].fill(0x5a);
    fs::write(&file, &bad).unwrap();
    let output = run("check", dir.path());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{errors}");
    assert!(errors.contains("log.sqlite3") && errors.contains("restore a backup"), "{errors}");
    fs::write(&file, &good[..5_000]).unwrap();
    let output = run("check", dir.path());
    assert_eq!(output.status.code(), Some(65));
    fs::write(&file, good).unwrap();

    // The database now looks as if a newer version of the server had written it.
    let newer = rusqlite::Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 1_000).unwrap();
    drop(newer);
    let (code, errors) = refused(dir.path(), &[]);
    assert_eq!(code, Some(65), "{errors}");
    assert!(errors.contains("version 1000") && errors.contains("up to 1"), "{errors}");
    assert_eq!(run("check", dir.path()).status.code(), Some(65));
}

#[tokio::test]
async fn the_id_key_stays_with_its_entries() {
    let dir = TempDir::new().unwrap();
    let key = dir.path().join("data/id.key");
    let server = start(dir.path(), &[]);
    server.post(&to(ALICE, &json!("kept"), "1")).await;
    kill(server).await;
    let secret = fs::read_to_string(&key).unwrap();
    let without_secret = |errors: &str| {
        assert!(!errors.contains(secret.trim()), "{errors}");
        assert!(errors.contains("id.key"), "{errors}");
    };
    let found_without_a_start = || {
        for command in ["check", "new-epoch"] {
            let output = run(command, dir.path());
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(65), "{command}: {errors}");
            without_secret(&errors);
        }
    };

    fs::write(&key, "abc").unwrap();
    let (code, errors) = refused(dir.path(), &[]);
    assert_eq!(code, Some(65), "{errors}");
    without_secret(&errors);
    found_without_a_start();
    fs::write(&key, secret.replace(&secret[..1], if secret.starts_with('0') { "1" } else { "0" }))
        .unwrap();
    let (code, errors) = refused(dir.path(), &[]);
    assert_eq!(code, Some(65), "{errors}");
    assert!(errors.contains("fingerprint") && errors.contains("--id-key-file"), "{errors}");
    without_secret(&errors);
    found_without_a_start();
    fs::remove_file(&key).unwrap();
    let (code, errors) = refused(dir.path(), &[]);
    assert_eq!(code, Some(65), "{errors}");
    without_secret(&errors);
    found_without_a_start();
    assert!(!key.exists(), "a wrong one would only hide what is wrong");

    // A key file in another place is accepted.
    let elsewhere = dir.path().join("id.key.elsewhere");
    fs::write(&elsewhere, &secret).unwrap();
    let server = start(dir.path(), &["--id-key-file", elsewhere.to_str().unwrap()]);
    assert_eq!(server.come_back(ALICE, &Value::Null).await.1, [json!("kept")]);
    assert!(!key.exists());
    server.stop().await;
    for command in ["check", "new-epoch"] {
        let data = dir.path().join("data");
        let output = program()
            .args([command, "--id-key-file"])
            .arg(&elsewhere)
            .arg("--data")
            .arg(data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    // Without a data directory the key is created at the path of `--id-key-file`.
    let made = dir.path().join("made.key");
    let made = made.to_str().unwrap();
    let first = Server::start(&["--id-key-file", made]);
    let secret = fs::read_to_string(made).unwrap();
    assert_eq!(secret.trim().len(), 64);
    let again = Server::start(&["--id-key-file", made]);
    assert_eq!(fs::read_to_string(made).unwrap(), secret);
    for server in [first, again] {
        let output = server.stop().await.output;
        assert!(!output.contains(secret.trim()), "{output}");
    }
}

#[tokio::test]
async fn files_that_everyone_can_get_at_are_warned_of() {
    let dir = TempDir::new().unwrap();
    let server = start(dir.path(), &[]);
    server.stop().await;
    let data = dir.path().join("data");
    let key = dir.path().join("key");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    // A backup that was restored carelessly has these permissions.
    mode(dir.path(), 0o755);
    mode(&data, 0o755);
    for file in ["log.sqlite3", "id.key"] {
        mode(&data.join(file), 0o644);
    }
    mode(&key, 0o644);
    let protect = |name: &str| format!("shop:{name}:{}", key.display());
    let checked = program()
        .arg("check")
        .args(["--protect", &protect("send"), "--protect", &protect("drop"), "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    let server = start(dir.path(), &[]);
    let said = server.stop().await.output;
    for file in [data.join("log.sqlite3"), data.join("id.key"), key.clone()] {
        let remedy = format!("chmod o-rwx {}\n", file.display());
        for text in [&checked, &said] {
            assert_eq!(text.matches(&remedy).count(), 1, "{remedy}: {text}");
        }
    }
    // The server does not warn about a hash, which is no secret, or about a file in a directory
    // that nobody else can enter.
    let hash = program().arg("hash-key").arg(&key).output().unwrap().stdout;
    assert!(hash.starts_with(b"sha256:"), "{hash:?}");
    fs::write(&key, hash).unwrap();
    mode(&data, 0o700);
    let args = ["--protect", &protect("send"), "--data", data.to_str().unwrap()];
    let said = Server::start(&args).stop().await.output;
    assert!(!said.contains("chmod"), "{said}");
}

#[tokio::test]
async fn the_oldest_goes_when_there_is_too_much() {
    let dir = TempDir::new().unwrap();
    let server = start(dir.path(), &["--data-size", "1MiB"]);
    let epoch = server.status().await["epoch"].clone();
    let message = json!("x".repeat(30_000));
    for number in 0..200 {
        let (status, reply) = server.post(&to(ALICE, &message, &number.to_string())).await;
        assert_eq!(status, 200, "{reply}");
    }
    kill(server).await;
    let text = check(dir.path());
    let line = text.lines().find(|line| line.contains("entries  ")).unwrap();
    let entries: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    // The disk keeps fewer messages than an inbox may hold.
    assert!((20..=45).contains(&entries), "{text}");
    assert!(text.contains("seq 200,"), "{text}");
    let size = fs::metadata(dir.path().join("data/log.sqlite3")).unwrap().len();
    assert!(size < 4 << 20, "{size}");

    let server = start(dir.path(), &["--data-size", "1MiB"]);
    let since = |seq: u64| json!({"epoch": epoch, "seq": seq});
    // A cursor from before the lost entries gets `recovered: false`. A later cursor gets the
    // messages after it.
    let gone = 200 - entries;
    let (reply, messages, _) = server.come_back(ALICE, &since(gone - 1)).await;
    assert_eq!((&reply["recovered"], messages.len() as u64), (&json!(false), entries));
    let (reply, messages, _) = server.come_back(ALICE, &since(gone)).await;
    assert_eq!((&reply["recovered"], messages.len() as u64), (&json!(true), entries));
    let (_, reply) = server.post(&to(ALICE, &message, "one more")).await;
    assert_eq!(reply["seq"], 201);
}
