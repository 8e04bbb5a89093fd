//! `server listen` while servers start and stop.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::Program;
use testkit::files::directory_with;

use crate::harness::{ALICE, Impostor, Line, Server, program};

const KEY: &str = "listen-key-0123456789abcdef";

/// A running `server listen` command.
struct Listening(Program);

impl Listening {
    fn start(to: &str, args: &[&str]) -> Self {
        let mut command = program();
        command.args(["listen", "--tag", "shop", "--to", to]).args(args);
        Self(Program::start(command))
    }

    /// Returns the message of the next line on stdout.
    async fn message(&self) -> Value {
        let line = self.0.stdout.next().await.expect("a message");
        serde_json::from_str::<Value>(&line).unwrap()["message"].clone()
    }

    /// Returns the next line on stderr, which must contain all of `parts`.
    async fn says(&self, parts: &[&str]) -> String {
        let line = self.0.stderr.next().await.expect("a line on stderr");
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        line
    }

    /// Ends the program. Returns its exit code, and the unread lines of stdout and stderr.
    async fn stop(self) -> (Option<i32>, Vec<String>, Vec<String>) {
        self.0.signal(Signal::TERM);
        self.ended().await
    }

    async fn ended(self) -> (Option<i32>, Vec<String>, Vec<String>) {
        let ended = self.0.ended().await;
        (ended.status.code(), ended.stdout, ended.stderr)
    }
}

fn confirmed(epoch: &str, more: &Value) -> Value {
    let mut reply = json!({"ok": "set", "tag": "shop", "epoch": epoch});
    reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    reply
}

fn live(seq: u64) -> Value {
    json!({"event": "live", "tag": "shop", "seq": seq})
}

fn message(seq: u64) -> Value {
    json!({"tag": "shop", "seq": seq, "at": 1, "message": seq})
}

#[tokio::test]
async fn after_a_lost_connection_each_message_comes_once() {
    let dir = directory_with("key", KEY);
    let server = Server::start_in(dir, &["--protect", "shop:send:{dir}/key"]);
    let send =
        |message| json!({"action":"send","tag":"shop","id":ALICE,"key":KEY,"message":message});
    let broadcast = |message| json!({"action":"broadcast","tag":"shop","message":message});
    let line = Line::to(server.address).await;
    server.post(&send("unread")).await;
    let listening =
        Listening::start(&format!("http://{}", line.address), &["--id", ALICE, "--count", "6"]);
    assert_eq!(listening.message().await, "unread");
    listening.says(&["listening to shop at", &line.address.to_string()]).await;
    server.until_counts("shop", (1, 1)).await;
    server.post(&broadcast("all")).await;
    server.post(&send("one")).await;
    assert_eq!(listening.message().await, "all");
    assert_eq!(listening.message().await, "one");

    line.cut();
    listening.says(&["is lost", "trying again in"]).await;
    server.until_counts("shop", (0, 0)).await;
    server.post(&broadcast("all, meanwhile")).await;
    server.post(&send("one, meanwhile")).await;
    line.heal();
    assert_eq!(listening.message().await, "all, meanwhile");
    assert_eq!(listening.message().await, "one, meanwhile");
    server.until_counts("shop", (1, 1)).await;
    server.post(&broadcast("the last")).await;
    assert_eq!(listening.message().await, "the last");
    let (code, printed, said) = listening.ended().await;
    assert_eq!((code, printed.len()), (Some(0), 0), "{printed:?}");
    assert!(said.last().unwrap().contains("listening to shop"), "{said:?}");
    assert!(!said.concat().contains("missing"), "{said:?}");
}

#[tokio::test]
async fn what_is_lost_is_told() {
    let impostor = Impostor::start().await;
    let listening = Listening::start(&impostor.url(), &[]);
    let (mut first, set) = impostor.websocket().await;
    assert_eq!(set["since"], Value::Null);
    first.says(&confirmed("k1", &json!({}))).await;
    first.says(&message(3)).await;
    first.says(&live(5)).await;
    first.says(&message(7)).await;
    first.says(&json!({"event": "gap", "tag": "shop"})).await;
    listening.says(&["listening to shop at"]).await;
    listening.says(&["shop may be missing"]).await;
    assert_eq!(listening.message().await, 3);
    assert_eq!(listening.message().await, 7);
    first.closes(4000, "reads too slowly").await;
    listening.says(&["reads too slowly (4000)", "trying again"]).await;

    let (mut second, set) = impostor.websocket().await;
    assert_eq!(set["since"], json!({"epoch": "k1", "seq": 7}));
    second.says(&confirmed("k1", &json!({"recovered": true}))).await;
    // This server sends more than the client has asked for.
    second.says(&message(7)).await;
    second.says(&message(8)).await;
    listening.says(&["listening to shop at"]).await;
    assert_eq!(listening.message().await, 8);
    drop(second);
    listening.says(&["is lost", "trying again"]).await;

    let (mut third, set) = impostor.websocket().await;
    assert_eq!(set["since"], json!({"epoch": "k1", "seq": 8}));
    third.says(&confirmed("k2", &json!({"recovered": false}))).await;
    third.says(&message(1)).await;
    listening.says(&["listening to shop at"]).await;
    listening.says(&["shop may be missing"]).await;
    assert_eq!(listening.message().await, 1);
    let (code, printed, said) = listening.stop().await;
    assert_eq!((code, printed.len(), said.len()), (Some(0), 0, 0), "{printed:?} {said:?}");
}

#[tokio::test]
async fn a_full_server_is_asked_again_when_it_says() {
    let server = Server::start(&["--max-connections", "1"]);
    let only = server.listener("shop", None).await;
    let listening = Listening::start(&server.url(), &["--count", "1"]);
    let refused = listening.says(&["503", "this server is full", "trying again in"]).await;
    // The client does not reconnect at once, but after the 3 to 10 s that the 503 names.
    let wait = refused.rsplit(' ').nth(1).unwrap().parse::<f64>().unwrap();
    assert!((3.0..10.0).contains(&wait), "{refused}");
    only.close().await;
    listening.says(&["listening to shop at", &server.address.to_string()]).await;
    server.post(&json!({"action":"broadcast","tag":"shop","message":"hi"})).await;
    assert_eq!(listening.message().await, "hi");
    assert_eq!(listening.ended().await.0, Some(0));
}

#[tokio::test]
async fn what_a_server_cannot_take_now_is_tried_again_but_not_what_it_refuses() {
    let impostor = Impostor::start().await;
    let listening = Listening::start(&impostor.url(), &[]);
    let (mut first, _) = impostor.websocket().await;
    let begun = Instant::now();
    let refusal = json!({"error":"rate_limited","detail":"too often","retry_in_ms":1100});
    first.says(&refusal).await;
    listening.says(&["rate_limited: too often", "trying again in 1.1 s"]).await;
    let (mut second, _) = impostor.websocket().await;
    assert!(begun.elapsed() >= Duration::from_millis(1100));
    second.says(&json!({"error":"denied","detail":"set on shop needs its key"})).await;
    let (code, _, said) = listening.ended().await;
    assert_eq!((code, said.len()), (Some(77), 1), "{said:?}");
}

#[tokio::test]
async fn a_server_that_stops_in_order_is_said_to_and_come_back_to_when_it_said() {
    let server = Server::start(&[]);
    let listening = Listening::start(&server.url(), &[]);
    listening.says(&["listening to shop at", &server.address.to_string()]).await;
    let address = server.address.to_string();
    server.stop().await;
    listening.says(&[&address, "is stopping or restarting", "trying again in"]).await;
    assert_eq!(listening.stop().await.0, Some(0));

    let impostor = Impostor::start().await;
    let listening = Listening::start(&impostor.url(), &[]);
    let (mut first, _) = impostor.websocket().await;
    first.says(&confirmed("k1", &json!({}))).await;
    listening.says(&["listening to shop at"]).await;
    let begun = Instant::now();
    first.says(&json!({"event": "bye", "retry_in_ms": 1200})).await;
    first.closes(1001, "the server restarts").await;
    listening.says(&["is stopping or restarting", "trying again in 1.2 s"]).await;
    impostor.websocket().await;
    assert!(begun.elapsed() >= Duration::from_millis(1200));
}

#[tokio::test]
async fn a_logout_ends_it_and_says_so() {
    let impostor = Impostor::start().await;
    let listening = Listening::start(&impostor.url(), &["--id", ALICE]);
    let (mut first, _) = impostor.websocket().await;
    first.says(&confirmed("k1", &json!({}))).await;
    listening.says(&["listening to shop at"]).await;
    first.closes(4004, "logged out").await;
    let (code, _, said) = listening.ended().await;
    assert_eq!(code, Some(77));
    assert!(said[0].contains("logged out (4004)"), "{said:?}");
}
