//! How often clients may do what.

use serde_json::{Value, json};

use crate::harness::{ALICE, Server, request};
use crate::metrics::metrics;

const KEY: &str = "a-key-of-enough-length-1";

fn broadcast() -> Value {
    json!({"action": "broadcast", "tag": "shop", "message": 1})
}

/// The wait that a refusal names, in milliseconds.
fn wait(reply: &Value) -> u64 {
    assert_eq!(reply["error"], "rate_limited", "{reply}");
    reply["retry_in_ms"].as_u64().unwrap()
}

#[tokio::test]
async fn a_connection_sends_so_much_and_no_more() {
    let server = Server::start(&["--send-rate", "1:3"]);
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert_eq!(client.ask(&broadcast()).await["ok"], "broadcast");
    }
    assert!((1..=1_001).contains(&wait(&client.ask(&broadcast()).await)));
    // Nor anything else that costs as much; to listen is another thing.
    wait(&client.ask(&json!({"action": "ping"})).await);
    wait(&client.ask(&json!({"action": "nonsense"})).await);
    assert_eq!(metrics(server.admin).await["server_errors_total{code=\"rate_limited\"}"], 3.0);
    client.set("shop", Some(ALICE)).await;
    // Others are not concerned.
    let mut other = server.connect().await;
    assert_eq!(other.ask(&broadcast()).await["ok"], "broadcast");
    assert_eq!(client.message().await, 1);
}

#[tokio::test]
async fn so_does_a_connection_that_posts() {
    let server = Server::start(&["--send-rate", "1:2"]);
    let (status, replies) = server.post(&json!([broadcast(), broadcast(), broadcast()])).await;
    assert_eq!((status, &replies[1]["ok"]), (200, &json!("broadcast")));
    wait(&replies[2]);
    // One connection, three requests.
    let body = broadcast().to_string();
    let one = format!("POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
    let requests = format!("{one}\r\n{body}{one}\r\n{body}{one}Connection: close\r\n\r\n{body}");
    let answers = crate::harness::exchange(server.address, requests.as_bytes()).await;
    let last = answers.body.rsplit_once("HTTP/1.1 ").unwrap().1;
    assert!(last.starts_with("429 "), "{last}");
    let retry = last.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((1..=2).contains(&retry.parse::<u64>().unwrap()));
}

#[tokio::test]
async fn who_has_the_key_has_no_limit() {
    let server = Server::start_in(
        dir_with_key(),
        &["--protect", "shop:broadcast:{dir}/key", "--send-rate", "1:1", "--wrong-key-rate", "1:2"],
    );
    let with = |key: &str| {
        let mut action = broadcast();
        action["key"] = key.into();
        action
    };
    let mut client = server.connect().await;
    for _ in 0..20 {
        assert_eq!(client.ask(&with(KEY)).await["ok"], "broadcast");
    }
    let mut guesser = server.connect().await;
    assert_eq!(guesser.ask(&with("a guess")).await["error"], "denied");
    wait(&guesser.ask(&with("another guess")).await);
    // Not even its own wrong ones are in the way of the right one.
    assert_eq!(guesser.ask(&with(KEY)).await["ok"], "broadcast");
}

#[tokio::test]
async fn wrong_keys_are_counted_apart() {
    let server = Server::start_in(
        dir_with_key(),
        &["--protect", "shop:set:{dir}/key", "--wrong-key-rate", "1:2"],
    );
    let mut client = server.connect().await;
    let guess = json!({"action": "set", "tag": "shop", "key": "a guess"});
    for _ in 0..2 {
        assert_eq!(client.ask(&guess).await["error"], "denied");
    }
    wait(&client.ask(&guess).await);
    let right = json!({"action": "set", "tag": "shop", "key": KEY});
    assert_eq!(client.ask(&right).await["ok"], "set");
}

#[tokio::test]
async fn a_connection_registers_so_often_and_no_more() {
    let server = Server::start(&["--set-rate", "1:3"]);
    let mut client = server.connect().await;
    client.set("shop", None).await;
    assert_eq!(client.ask(&json!({"action": "unset", "tag": "shop"})).await["ok"], "unset");
    client.set("shop", None).await;
    wait(&client.ask(&json!({"action": "set", "tag": "news"})).await);
    // What it has stays.
    assert_eq!(server.post(&broadcast()).await.0, 200);
    assert_eq!(client.message().await, 1);
}

#[tokio::test]
async fn one_that_goes_on_and_on_is_closed() {
    let server = Server::start(&["--send-rate", "1:1"]);
    let mut client = server.connect().await;
    let mut bystander = server.listener("shop", None).await;
    client.send_at_once((0..3_000).map(|_| json!({"action": "ping"}))).await;
    assert_eq!(client.closed().await, Some(4500));
    assert_eq!(server.post(&broadcast()).await.0, 200);
    assert_eq!(bystander.message().await, 1);
}

#[tokio::test]
async fn an_address_has_twenty_times_what_a_connection_has() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0", "--send-rate", "1:1"]);
    // A household of IPv6 is one address.
    let household = |number| format!("2001:db8:1:2::{number}");
    let mut refused = 0;
    for number in 1..=30 {
        let mut client = server.connect_from(&household(number)).await.unwrap();
        refused += u32::from(client.ask(&broadcast()).await["error"] == "rate_limited");
    }
    // 20 at once; while the other ten came, a few more.
    assert!((1..=10).contains(&refused), "{refused}");
    let mut other = server.connect_from("2001:db8:1:3::1").await.unwrap();
    assert_eq!(other.ask(&broadcast()).await["ok"], "broadcast");
    let mut nameless = server.connect().await;
    assert_eq!(nameless.ask(&broadcast()).await["ok"], "broadcast");
}

#[tokio::test]
async fn an_address_connects_so_often_and_no_more() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0", "--connect-rate", "1:2"]);
    for _ in 0..2 {
        assert!(server.connect_from("192.0.2.7").await.is_ok());
    }
    assert_eq!(server.connect_from("192.0.2.7").await.err(), Some(429));
    assert!(server.connect_from("192.0.2.8").await.is_ok());
    // Without a proxy nobody on this machine has an address.
    for _ in 0..5 {
        server.connect().await.close().await;
    }
}

#[tokio::test]
async fn rates_that_make_no_sense_are_said() {
    for text in ["200", "0:5", "5:0", "many", "1:2:3", ":"] {
        let output =
            crate::harness::program().args(["check", "--send-rate", text]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(&format!("--send-rate: {text}: write N:BURST")), "{error}");
    }
}

/// An answer that says when to come back, also where it is no JSON.
#[tokio::test]
async fn a_refused_connection_is_told_when_to_come_back() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0", "--connect-rate", "1:1"]);
    assert!(server.connect_from("192.0.2.7").await.is_ok());
    let line = crate::harness::proxy_line("192.0.2.7") + "GET /ws";
    let headers = [
        "Upgrade: websocket",
        "Connection: upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let answer = request(server.proxied.unwrap(), &line, &headers, b"").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
}

fn dir_with_key() -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("key"), KEY).unwrap();
    dir
}
