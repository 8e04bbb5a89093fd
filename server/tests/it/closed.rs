//! Closed by default: who may send on a server that is given no key, and where its key is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ALICE, Server, program};
use crate::reload::Managed;

const DROP_KEY: &str = "drop-key-0123456789abcdef";

fn closed(args: &[&str]) -> Server {
    Server::start_closed_in(TempDir::new().unwrap(), args)
}

/// The key that the server made.
fn made_key(server: &Server) -> (String, PathBuf) {
    let file = server.dir.path().join(format!("tocsin/send-{}.key", server.address.port()));
    (fs::read_to_string(&file).unwrap().trim().to_owned(), file)
}

async fn ask(server: &Server, action: &str, tag: &str, key: Option<&str>) -> Value {
    let action = json!({"action": action, "tag": tag, "id": ALICE, "message": 1, "key": key});
    let action = match action["action"].as_str() {
        Some("broadcast") => without(action, &["id"]),
        Some("drop") => without(action, &["message"]),
        _ => action,
    };
    server.post(&action).await.1
}

fn without(mut action: Value, names: &[&str]) -> Value {
    for name in names {
        action.as_object_mut().unwrap().remove(*name);
    }
    action
}

#[tokio::test]
async fn nobody_sends_without_a_key_and_the_made_key_permits_sending_alone() {
    let server = closed(&[]);
    let (key, file) = made_key(&server);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let mut alice = server.listener("shop", Some(ALICE)).await;
    for action in ["send", "broadcast"] {
        for tag in ["shop", "any"] {
            for wrong in [None, Some("a-wrong-key-0123456789")] {
                let reply = ask(&server, action, tag, wrong).await;
                assert_eq!(reply["error"], "denied", "{action} {tag} {reply}");
            }
            assert_eq!(ask(&server, action, tag, Some(&key)).await["ok"], action);
        }
    }
    assert_eq!(alice.message().await, 1);
    let reply = ask(&server, "drop", "shop", Some(&key)).await;
    assert_eq!(reply["detail"], "drop needs a key, and none is configured for it on shop");
    let status = server.status().await;
    assert_eq!(status["protected"], json!(["*:send", "*:broadcast"]));
    assert_eq!(status["open"], json!([]));
}

#[tokio::test]
async fn what_is_opened_is_open_and_nothing_else() {
    let server = closed(&["--open", "chat:broadcast", "--open", "*:send"]);
    for (action, tag, open) in [
        ("broadcast", "chat", true),
        ("send", "chat", true),
        ("send", "any", true),
        ("broadcast", "any", false),
        ("drop", "chat", false),
    ] {
        let reply = ask(&server, action, tag, None).await;
        assert_eq!(reply["ok"] == action, open, "{action} {tag} {reply}");
    }
    let (key, _) = made_key(&server);
    assert_eq!(ask(&server, "broadcast", "any", Some(&key)).await["ok"], "broadcast");
}

/// A tag has inboxes unless everyone may send on it.
#[tokio::test]
async fn closed_tags_have_inboxes() {
    let server = closed(&["--open", "chat:send"]);
    let (key, _) = made_key(&server);
    assert_eq!(ask(&server, "send", "shop", Some(&key)).await["stored"], true);
    assert_eq!(ask(&server, "send", "chat", None).await["stored"], false);
}

#[tokio::test]
async fn no_key_is_made_where_one_is_given_or_none_is_needed() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("key"), DROP_KEY).unwrap();
    let given = Server::start_closed_in(dir, &["--protect", "*:broadcast:{dir}/key"]);
    assert!(!given.dir.path().join("tocsin").exists());
    assert_eq!(ask(&given, "broadcast", "any", Some(DROP_KEY)).await["ok"], "broadcast");
    let reply = ask(&given, "send", "any", Some(DROP_KEY)).await;
    assert_eq!(reply["detail"], "send needs a key, and none is configured for it on any");
    let open = Server::start(&[]);
    assert!(!open.dir.path().join("tocsin").exists());
}

#[tokio::test]
async fn with_a_data_directory_the_key_outlives_the_server() {
    let data = TempDir::new().unwrap();
    let args = ["--data", data.path().to_str().unwrap()];
    let server = closed(&args);
    let (key, _) = made_key(&server);
    let kept = data.path().join(format!("send-{}.key", server.address.port()));
    assert_eq!(fs::read_to_string(kept).unwrap().trim(), key);
}

/// A reload keeps the key, and one that brings a key of the configuration takes it away.
#[tokio::test]
async fn a_reload_keeps_the_made_key() {
    let managed = Managed::start_closed("log = \"info\"\n", &[]);
    let server = &managed.server;
    let (key, _) = made_key(server);
    managed.reload("send-rate = \"100:200\"\n");
    assert_eq!(ask(server, "broadcast", "any", Some(&key)).await["ok"], "broadcast");
    assert_eq!(ask(server, "broadcast", "any", None).await["error"], "denied");
    managed.reload(&format!("[tags.any.keys]\nbroadcast = \"{DROP_KEY}\"\n"));
    assert_eq!(ask(server, "broadcast", "any", Some(&key)).await["error"], "denied");
    assert_eq!(ask(server, "broadcast", "any", Some(DROP_KEY)).await["ok"], "broadcast");
}

async fn send(server: &Server, environment: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = program();
    let state = server.dir.path();
    command.env("XDG_STATE_HOME", state).envs(environment.iter().copied());
    command.args(["broadcast", "--tag", "t", "--to", &server.url()]).args(args).arg("hi");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_command_line_finds_the_key() {
    let server = closed(&[]);
    let (key, file) = made_key(&server);
    let code = |output: &Output| output.status.code();
    let errors = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    let found = send(&server, &[], &[]).await;
    assert_eq!(code(&found), Some(0), "{}", errors(&found));

    // A key that is given wins.
    let wrong = send(&server, &[("TOCSIN_KEY", "a-wrong-key-0123456789")], &[]).await;
    assert_eq!(code(&wrong), Some(77));
    assert!(errors(&wrong).contains("the key in TOCSIN_KEY was used"), "{}", errors(&wrong));
    let elsewhere = server.file("elsewhere", &key);
    let elsewhere = elsewhere.to_str().unwrap();
    let named = [("TOCSIN_KEY_FILE", elsewhere), ("XDG_STATE_HOME", "/none")];
    assert_eq!(code(&send(&server, &named, &[]).await), Some(0));

    // Another user could have written the file.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let untrusted = send(&server, &[], &[]).await;
    assert_eq!(code(&untrusted), Some(77));
    let told = errors(&untrusted);
    for place in [
        "TOCSIN_KEY is not set",
        "TOCSIN_KEY_FILE is not set",
        "/etc/tocsin/send-",
        "/run/tocsin/send-",
        "may change it",
    ] {
        assert!(told.contains(place), "{place}: {told}");
    }
    assert!(!told.contains(&key));
}
