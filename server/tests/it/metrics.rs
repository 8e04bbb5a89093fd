//! Tests the metrics of the admin port.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::PATIENCE;
use testkit::files::directory_with;
use testkit::metrics::samples;

use crate::harness::{ALICE, BOB, Client, Server, request};

pub(crate) const KEY: &str = "metrics-key-0123456789abcdef";

/// Returns all samples by their full names, including labels.
pub(crate) async fn metrics(admin: SocketAddr) -> HashMap<String, f64> {
    let answer = request(admin, "GET /metrics", &[], b"").await;
    assert_eq!(answer.status, 200);
    samples(&answer.body)
}

/// Reads the metrics until `name` has the value `wanted`, because a client may receive a message
/// before the server counts it.
pub(crate) async fn until(admin: SocketAddr, name: &str, wanted: f64) -> HashMap<String, f64> {
    let asking = async {
        loop {
            let now = metrics(admin).await;
            if now.get(name) == Some(&wanted) {
                return now;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(now) => now,
        Err(_) => panic!("{name} never is {wanted}: {:#?}", metrics(admin).await),
    }
}

fn assert_all(now: &HashMap<String, f64>, wanted: &[(&str, f64)]) {
    for (name, value) in wanted {
        assert_eq!(now.get(*name), Some(value), "{name} in {now:#?}");
    }
}

/// Starts a server on which the tag shop has inboxes.
pub(crate) fn shop() -> Server {
    let dir = directory_with("key", KEY);
    Server::start_in(dir, &["--protect", "shop:send:{dir}/key", "--max-memory", "32MiB"])
}

/// The length of a frame. The server's frames have a head of two bytes, or of four if the payload
/// has 126 bytes or more.
fn frame_length(text: &str) -> usize {
    text.len() + if text.len() < 126 { 2 } else { 4 }
}

#[tokio::test]
async fn registrations_deliveries_and_what_is_kept() {
    let server = shop();
    let mut alice = server.listener("shop", None).await;
    let reply = alice.ask(&json!({"action":"set","tag":"shop","id":ALICE})).await;
    assert_eq!(reply["ok"], "set");
    assert_eq!(alice.next().await["event"], "live");
    let mut others = [server.listener("shop", None).await, server.listener("shop", None).await];
    let _elsewhere = server.listener("blog", None).await;

    let send = |id: &str| json!({"action":"send","tag":"shop","id":id,"message":1,"key":KEY});
    for action in [json!({"action":"broadcast","tag":"shop","message":1}), send(ALICE), send(BOB)] {
        assert_eq!(server.post(&action).await.0, 200);
    }
    server.post(&json!({"action":"broadcast","tag":"shop","message":"x".repeat(200)})).await;
    let mut bytes = 0;
    for (client, frames) in [(&mut alice, 3)].into_iter().chain(others.iter_mut().map(|o| (o, 2))) {
        for _ in 0..frames {
            bytes += frame_length(&client.next_text().await);
        }
    }
    until(server.admin, "server_deliveries_total", 7.0).await;
    // The connections of the HTTP requests may stay open for a moment after the answer, while the
    // server waits for the client to close.
    let now = until(server.admin, "server_connections", 4.0).await;
    assert_all(
        &now,
        &[
            ("server_delivered_bytes_total", bytes as f64),
            ("server_accepted_total", 8.0),
            ("server_registrations", 4.0),
            ("server_tags", 2.0),
            ("server_ids", 1.0),
            ("server_kept_tags", 1.0),
            ("server_kept_broadcasts", 2.0),
            ("server_kept_unread", 2.0),
            ("server_kept_inboxes", 2.0),
            ("server_kept_limit_bytes", 32.0 * 1024.0 * 1024.0),
            ("server_replayed_total", 0.0),
            ("server_replays", 0.0),
            ("server_outbox_bytes", 0.0),
            ("server_shard_queue_entries", 0.0),
            ("server_shard_queue_bytes", 0.0),
            ("server_log_appends_total{outcome=\"ok\"}", 4.0),
            ("server_log_appends_total{outcome=\"refused\"}", 0.0),
            ("server_log_appends_total{outcome=\"unknown\"}", 0.0),
        ],
    );
    // The server keeps two broadcasts, two unread messages, and the indexes that find them.
    let kept = now["server_kept_bytes"];
    assert!((1_000.0..4_000.0).contains(&kept), "{kept}");
    assert!(!now.keys().any(|name| name.starts_with("server_log_commit")), "no disk, no commits");
    // The CPU time may still round to 0.
    assert!(now["process_cpu_seconds_total"] >= 0.0 && now["process_resident_memory_bytes"] > 0.0);
    assert!(now["process_open_fds"] > 4.0 && now["process_max_fds"] > now["process_open_fds"]);
    let status = server.status().await;
    let shop = json!({"registrations":3,"ids":1,"deliveries":7,"broadcasts":2,"unread":2});
    assert_eq!((&status["tags"]["shop"], &status["tags_left_out"]), (&shop, &json!(0)));
    assert_eq!(status["tags"]["blog"]["registrations"], 1);
    assert!(!status.to_string().contains(ALICE) && !status.to_string().contains(BOB));

    // Messages from an inbox count as replayed, not as delivered.
    let _bob = server.listener_with_inbox(BOB, 1).await;
    let now = until(server.admin, "server_replayed_total", 1.0).await;
    assert_all(&now, &[("server_deliveries_total", 7.0), ("server_ids", 2.0)]);
}

#[tokio::test]
async fn who_says_that_something_was_read_is_not_told_of_it() {
    let server = shop();
    let mut devices = Vec::new();
    for _ in 0..3 {
        devices.push(server.listener_with_inbox(ALICE, 0).await);
    }
    let send = json!({"action":"send","tag":"shop","id":ALICE,"message":1,"key":KEY});
    let seq = server.post(&send).await.1["seq"].clone();
    for device in &mut devices {
        device.message().await;
    }
    let read = json!({"action":"read","tag":"shop","seq":seq});
    assert_eq!(devices[0].ask(&read).await["ok"], "read");
    until(server.admin, "server_deliveries_total", 5.0).await;
    assert_eq!(server.status().await["tags"]["shop"]["deliveries"], 5);
}

#[tokio::test]
async fn latency_is_measured_once_for_an_entry_and_shard() {
    let server = Server::start(&[]);
    let mut listener = server.listener("t", None).await;
    server.post(&json!({"action":"broadcast","tag":"nobody","message":1})).await;
    for number in 0..3 {
        server.post(&json!({"action":"broadcast","tag":"t","message":number})).await;
        assert_eq!(listener.message().await, number);
    }
    let now = until(server.admin, "server_delivery_seconds_count", 3.0).await;
    assert_eq!(now["server_delivery_seconds_bucket{le=\"+Inf\"}"], 3.0);
    assert_eq!(now["server_delivery_seconds_bucket{le=\"10.0\"}"], 3.0);
    let sum = now["server_delivery_seconds_sum"];
    assert!(sum > 0.0 && sum < 30.0, "{sum}");
}

#[tokio::test]
async fn every_error_reply_is_counted_by_its_code() {
    let dir = directory_with("key", KEY);
    let server =
        Server::start_in(dir, &["--protect", "shop:send:{dir}/key", "--max-registrations", "1"]);
    let _only = server.listener("t", None).await;
    let with_mid =
        |message: &str| json!({"action":"broadcast","tag":"t","message":message,"mid":"m"});
    assert_eq!(server.post(&with_mid("one")).await.0, 200);
    let wrong = [
        ("bad_request", json!({"action":"broadcast","tag":"t"})),
        ("unknown_action", json!({"action":"sing"})),
        ("bad_tag", json!({"action":"broadcast","tag":"?","message":1})),
        ("weak_id", json!({"action":"send","tag":"t","id":"1","message":1})),
        ("denied", json!({"action":"send","tag":"shop","id":ALICE,"message":1})),
        ("too_large", json!({"action":"broadcast","tag":"t","message":"x".repeat(70_000)})),
        ("mid_conflict", with_mid("two")),
    ];
    let mut client = server.connect().await;
    for (code, action) in &wrong {
        assert_eq!(client.ask(action).await["error"], **code);
        assert_eq!(server.post(action).await.1["error"], **code);
    }
    let all: Vec<&Value> = wrong.iter().map(|(_, action)| action).collect();
    assert_eq!(server.post(&json!(all)).await.0, 200);
    // This request is refused before its action is parsed.
    assert_eq!(server.post_with("{}", &["Authorization: Basic x"]).await.0, 401);
    let unset = client.ask(&json!({"action":"unset","tag":"t"})).await;
    assert_eq!(unset["error"], "not_registered");
    // The server has no room for this `set`.
    let elsewhere = client.ask(&json!({"action":"set","tag":"elsewhere"})).await;
    assert_eq!(elsewhere["error"], "unavailable");
    let now = metrics(server.admin).await;
    let errors = |code: &str| now[&format!("server_errors_total{{code=\"{code}\"}}")];
    for (code, _) in &wrong {
        assert_eq!(errors(code), if *code == "denied" { 4.0 } else { 3.0 }, "{code}");
    }
    assert_eq!(errors("not_registered"), 1.0);
    assert_eq!(errors("unavailable"), 1.0);
}

#[tokio::test]
async fn ends_are_counted_by_code_and_by_who_closed() {
    let server = Server::start(&[]);
    let closes =
        |by: &str, code: &str| format!("server_closes_total{{by=\"{by}\",code=\"{code}\"}}");
    server.connect().await.close().await;
    until(server.admin, &closes("client", "1000"), 1.0).await;
    server.listener("t", None).await.vanish();
    until(server.admin, &closes("client", "none"), 1.0).await;
    // These are two masked close frames. Browsers send code 1001 when a page is left, and 3999 is a
    // private code.
    let frame = |code: u16| [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat();
    for (code, name) in [(1001, "1001"), (3999, "other")] {
        server_closed(&mut server.connect().await, &frame(code), code).await;
        until(server.admin, &closes("client", name), 1.0).await;
    }
    // These are a masked binary frame, and a frame that is not masked.
    for (bytes, code) in [(&[0x82, 0x80, 0, 0, 0, 0][..], 1003), (&[0x81, 0][..], 1002)] {
        server_closed(&mut server.connect().await, bytes, code).await;
        until(server.admin, &closes("server", &code.to_string()), 1.0).await;
    }
    let mut seventeen = Vec::new();
    for _ in 0..17 {
        seventeen.push(server.listener("t", Some(ALICE)).await);
    }
    let now = until(server.admin, &closes("server", "4005"), 1.0).await;
    let closed = now.iter().filter(|(name, _)| name.starts_with("server_closes_total"));
    assert_eq!(closed.map(|(_, count)| count).sum::<f64>(), 7.0);
}

async fn server_closed(client: &mut Client, bytes: &[u8], code: u16) {
    client.send_raw(bytes).await;
    assert_eq!(client.closed().await, Some(code));
}

#[tokio::test]
async fn what_waits_for_a_slow_client_and_its_replay() {
    let server = Server::start(&[]);
    let slow = server.listener("slow", None).await;
    let broadcast =
        |tag: &str| json!({"action":"broadcast","tag":tag,"message":"x".repeat(60_000)});
    let mut sent = 0;
    let waiting = loop {
        server.post(&broadcast("slow")).await;
        let waiting = metrics(server.admin).await["server_outbox_bytes"];
        if waiting > 0.0 {
            break waiting;
        }
        sent += 1;
        assert!(sent < 2_000, "its socket takes everything");
    };
    assert!(waiting <= 256.0 * 1024.0, "{waiting}");
    slow.vanish();
    until(server.admin, "server_outbox_bytes", 0.0).await;

    // These are more bytes than the kernel's buffers hold.
    let batch: Vec<Value> = (0..100).map(|_| broadcast("t")).collect();
    assert_eq!(server.post(&json!(batch)).await.0, 200);
    let mut late = server.connect().await;
    late.send(&json!({"action":"set","tag":"t","last":100})).await;
    let now = until(server.admin, "server_replays", 1.0).await;
    assert!(now["server_replayed_total"] < 100.0);
    late.vanish();
    until(server.admin, "server_replays", 0.0).await;
    until(server.admin, "server_outbox_bytes", 0.0).await;
}

#[tokio::test]
async fn commits_are_measured() {
    let server = Server::start(&["--data", "{dir}/log"]);
    for number in 0..3 {
        // The messages are sent one after the other, so that each has a commit of its own.
        server.post(&json!({"action":"broadcast","tag":"t","message":number})).await;
    }
    let now = metrics(server.admin).await;
    assert_all(
        &now,
        &[
            ("server_log_commit_seconds_count", 3.0),
            ("server_log_appends_total{outcome=\"ok\"}", 3.0),
            ("server_log_queue_entries", 0.0),
            ("server_log_queue_bytes", 0.0),
        ],
    );
    assert!(now["server_log_commit_seconds_sum"] > 0.0);
}
