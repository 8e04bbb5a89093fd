//! Tests SIGHUP: keys, tags and limits change while connections stay open.

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::service_manager::NotifySocket;
use testkit::{Program, soon};

use crate::harness::{ALICE, EVERYTHING_OPEN, Server, program, request};

const OLD: &str = "the-old-key-of-some-length";
const NEW: &str = "the-new-key-of-some-length";

/// A server with a configuration file, and the service manager that the server notifies after a
/// reload.
pub(crate) struct Managed {
    pub(crate) server: Server,
    dir: TempDir,
    told: NotifySocket,
}

impl Managed {
    pub(crate) fn start(config: &str, options: &[&str]) -> Self {
        Self::start_closed(config, &[&EVERYTHING_OPEN, options].concat())
    }

    /// Starts without opening anything.
    pub(crate) fn start_closed(config: &str, options: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("tocsin.toml");
        std::fs::write(&file, config).unwrap();
        let told = NotifySocket::new();
        let environment = [("NOTIFY_SOCKET", told.path().to_str().unwrap().to_owned())];
        let options = [&["--config", file.to_str().unwrap()], options].concat();
        let server = Server::start_closed_with(&environment, &options);
        told.until("READY=1");
        Self { server, dir, told }
    }

    pub(crate) fn reload(&self, config: &str) {
        std::fs::write(self.dir.path().join("tocsin.toml"), config).unwrap();
        self.hang_up();
    }

    /// Reloads the file as it is.
    fn hang_up(&self) {
        self.server.signal(Signal::HUP);
        self.told.until("RELOADING=1");
        self.told.until("READY=1");
    }

    /// Returns the reply to a broadcast with this key.
    async fn broadcast(&self, tag: &str, key: &str) -> Value {
        let action = json!({"action": "broadcast", "tag": tag, "key": key, "message": key});
        self.server.post(&action).await.1
    }
}

fn config(key: &str, more: &str) -> String {
    format!("[tags.shop]\nkeys.broadcast = \"{key}\"\n{more}")
}

#[tokio::test]
async fn keys_and_tags_change_and_every_connection_stays() {
    let managed = Managed::start(&config(OLD, ""), &[]);
    let mut listener = managed.server.listener("shop", Some(ALICE)).await;
    assert_eq!(managed.broadcast("shop", OLD).await["clients"], 1);
    assert_eq!(managed.broadcast("news", "").await["error"], "bad_tag");

    managed.reload(&config(NEW, "[tags.news]\n"));
    assert_eq!(managed.broadcast("shop", OLD).await["error"], "denied");
    assert_eq!(managed.broadcast("shop", NEW).await["clients"], 1);
    assert_eq!(managed.broadcast("news", "").await["ok"], "broadcast");
    assert_eq!(listener.message().await, OLD);
    assert_eq!(listener.message().await, NEW);
    listener.set("news", None).await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_told_of() {
    let managed = Managed::start(&config(OLD, ""), &[]);
    managed.reload(&config("short", "colour = 1\n"));
    assert_eq!(managed.broadcast("shop", OLD).await["ok"], "broadcast");
    managed.reload(&config(NEW, ""));
    assert_eq!(managed.broadcast("shop", NEW).await["ok"], "broadcast");
    let log = managed.server.stop().await.output;
    assert!(log.contains("tocsin.toml, line 2"), "{log}");
    assert!(log.contains("tocsin.toml, line 3"), "{log}");
    assert!(log.contains("the configuration stays as it was"), "{log}");
    assert!(!log.contains("short"), "{log}");
}

/// A tag has inboxes only if `send` needs a key, since otherwise anyone could fill them.
#[tokio::test]
async fn with_the_key_for_send_come_the_inboxes() {
    let managed = Managed::start("[tags.shop]\n", &[]);
    let with = format!("[tags.shop]\nkeys.send = \"{NEW}\"\nring = 0\n");
    managed.reload(&with);
    let send = json!({"action": "send", "tag": "shop", "id": ALICE, "key": NEW, "message": 1});
    assert_eq!(managed.server.post(&send).await.1["stored"], true);
    let mut alice = managed.server.listener_with_inbox(ALICE, 1).await;
    alice.set("shop", None).await;
}

#[tokio::test]
async fn limits_change_for_those_who_are_there_too() {
    let managed = Managed::start("send-rate = \"1:1\"\n", &[]);
    let mut client = managed.server.connect().await;
    let ping = json!({"action": "ping"});
    client.until_too_often(&ping).await;
    managed.reload("send-rate = \"off\"\n");
    for _ in 0..10 {
        assert_eq!(client.ask(&ping).await["ok"], "ping");
    }
}

/// A configuration that is being rewritten, or that cannot be read twice, changes nothing.
#[tokio::test]
async fn a_file_that_is_empty_or_no_regular_file_changes_nothing() {
    let keys = "keys = { set = \"the-set-key-of-some-length\" }\n";
    let managed = Managed::start(&format!("[tags.shop]\n{keys}"), &[]);
    let file = managed.dir.path().join("tocsin.toml");
    let mut stranger = managed.server.connect().await;
    let set = json!({"action": "set", "tag": "shop"});
    for made in ["empty", "blank", "pipe", "directory"] {
        let _ = std::fs::remove_file(&file);
        match made {
            "empty" => std::fs::write(&file, "").unwrap(),
            "blank" => std::fs::write(&file, " \n\n").unwrap(),
            "pipe" => testkit::files::make_fifo(&file),
            _ => std::fs::create_dir(&file).unwrap(),
        }
        managed.hang_up();
        assert_eq!(stranger.ask(&set).await["error"], "denied", "{made}");
    }
    let log = managed.server.stop().await.output;
    assert_eq!(log.matches("the file is empty").count(), 2, "{log}");
    assert_eq!(log.matches("is no regular file").count(), 2, "{log}");
    assert_eq!(log.matches("the configuration stays as it was").count(), 4, "{log}");
}

/// A key file that cannot be read twice, such as a pipe, changes nothing.
#[tokio::test]
async fn a_key_file_that_is_a_pipe_by_now_changes_nothing() {
    let keys = TempDir::new().unwrap();
    let key = keys.path().join("key");
    std::fs::write(&key, NEW).unwrap();
    let config = format!("[tags.shop.key-files]\nbroadcast = \"{}\"\n", key.display());
    let managed = Managed::start(&config, &[]);
    std::fs::remove_file(&key).unwrap();
    testkit::files::make_fifo(&key);
    managed.hang_up();
    assert_eq!(managed.broadcast("shop", NEW).await["ok"], "broadcast");
    let log = managed.server.stop().await.output;
    assert!(log.contains("is no regular file"), "{log}");
}

/// What keeps listeners out goes by a restart, or by name.
#[tokio::test]
async fn a_reload_never_takes_away_what_keeps_listeners_out() {
    let keys = "keys = { set = \"the-set-key-of-some-length\" }\n";
    let managed = Managed::start(&format!("[tags.shop]\n{keys}[tags.news]\n"), &[]);
    let mut stranger = managed.server.connect().await;
    let set = |tag: &str| json!({"action": "set", "tag": tag});
    for (config, named) in [
        ("# nothing\n", "the key for shop:set, [tags.news], [tags.shop]"),
        ("[tags.shop]\n[tags.news]\n", "the key for shop:set;"),
        (&*format!("[tags.shop]\n{keys}"), "[tags.news];"),
    ] {
        managed.reload(config);
        assert_eq!(stranger.ask(&set("shop")).await["error"], "denied", "{named}");
        assert_eq!(stranger.ask(&set("other")).await["error"], "bad_tag", "{named}");
    }
    managed.reload("[tags.shop]\nopen = [\"set\"]\n[tags.news]\n");
    assert_eq!(stranger.ask(&set("shop")).await["ok"], "set");
    let log = managed.server.stop().await.output;
    for named in ["shop:set, [tags.news], [tags.shop]", "shop:set; restart", "out: [tags.news];"] {
        assert!(log.contains(named), "{named}: {log}");
    }
}

/// A client that owes ten minutes at the old rate does not wait for them at the new one.
#[tokio::test]
async fn who_has_used_up_a_slow_rate_goes_on_at_a_faster_one() {
    let managed = Managed::start("send-rate = \"1:600\"\n", &[]);
    let mut client = managed.server.connect().await;
    let ping = json!({"action": "ping"});
    client.send_at_once(std::iter::repeat_n(ping.clone(), 700)).await;
    let mut refused = 0;
    for _ in 0..700 {
        refused += u32::from(client.next().await["error"] == "rate_limited");
    }
    assert!(refused > 0);
    managed.reload("send-rate = \"200:400\"\n");
    let reply = client.ask(&ping).await;
    let wait = reply["retry_in_ms"].as_u64();
    // The new rate of 200 a second allows one request every 5 ms.
    assert!(reply["ok"] == "ping" || wait.is_some_and(|wait| wait < 10), "{reply}");
    let going_on = async { while client.ask(&ping).await["ok"] != "ping" {} };
    soon(going_on).await;
}

#[tokio::test]
async fn what_only_a_restart_changes_is_named() {
    let managed = Managed::start("ping-interval = \"30s\"\n", &[]);
    managed.reload("ping-interval = \"40s\"\nmax-tags = 7\norigin = \"https://shop.example\"\n");
    let log = managed.server.stop().await.output;
    assert!(log.contains("only a restart applies it: origin, ping-interval, max-tags"), "{log}");
}

/// A reload does not start or stop the demo page, and does not change the protection of its tag.
#[tokio::test]
async fn the_demo_neither_comes_nor_goes_and_nor_does_its_protection() {
    let demo = "demo = true\n";
    let none = "# no demo\n";
    for (begun_with, then, outcome) in [(demo, none, "error"), (none, demo, "ok")] {
        let managed = Managed::start(begun_with, &[]);
        let before = managed.broadcast("notifications", "").await;
        assert!(before[outcome].is_string(), "begun with {begun_with:?}: {before}");
        let page = managed.server.get("/").await.status;
        managed.reload(then);
        assert_eq!(managed.server.get("/").await.status, page);
        let after = managed.broadcast("notifications", "").await;
        assert_eq!(after[outcome], before[outcome], "{begun_with:?}, then {then:?}: {after}");
        let log = managed.server.stop().await.output;
        assert!(log.contains("only a restart applies it: demo"), "{log}");
    }
}

#[tokio::test]
async fn who_takes_away_the_keys_of_what_the_demo_shows_is_told_its_own() {
    let keys: String =
        ["send", "broadcast", "drop"].map(|action| format!("keys.{action} = \"{OLD}\"\n")).concat();
    let tag = "[tags.notifications]\n";
    let managed = Managed::start(&format!("demo = true\n{tag}{keys}"), &[]);
    managed.reload(&format!("demo = true\n{tag}"));
    assert_eq!(managed.broadcast("notifications", OLD).await["error"], "denied");
    managed.reload(&format!("demo = true\n{tag}"));
    let output = managed.server.stop().await.output;
    assert_eq!(output.matches("demo-key ").count(), 1, "{output}");
}

#[tokio::test]
async fn the_demos_key_stays() {
    let told = NotifySocket::new();
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--admin", "off", "--demo"]);
    command.env("NOTIFY_SOCKET", told.path());
    let server = Program::start(command);
    let address = server.announced("server");
    let line = server.stdout.next_blocking().unwrap();
    let key = line.strip_prefix("demo-key ").unwrap();
    told.until("READY=1");
    server.signal(Signal::HUP);
    told.until("RELOADING=1");
    told.until("READY=1");
    let body = json!({"action": "broadcast", "tag": "notifications", "key": key, "message": 1});
    let to = address.parse().unwrap();
    let answer = request(to, "POST /messages", &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}
