//! Newcomers for whom there is no room, and what bounds all clients together.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{Answer, Server, exchange_over, proxy_line, request};
use crate::metrics::metrics;

fn told_to_come_back(answer: &Answer) {
    assert_eq!(answer.status, 503);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((3..10).contains(&wait));
    assert!(answer.body.contains("Come back"), "{}", answer.body);
}

#[tokio::test]
async fn beyond_the_last_place_newcomers_are_told_to_come_back() {
    let server = Server::start(&["--max-connections", "2", "--listen-proxy", "127.0.0.1:0"]);
    let mut first = server.listener("shop", None).await;
    let second = server.listener("shop", None).await;
    told_to_come_back(&request(server.address, "GET /ws", &[], b"").await);
    told_to_come_back(&request(server.address, "POST /messages", &[], &[b'x'; 100_000]).await);
    let mut stream = TcpStream::connect(server.proxied.unwrap()).await.unwrap();
    stream.write_all(proxy_line("192.0.2.7").as_bytes()).await.unwrap();
    told_to_come_back(&exchange_over(stream, b"GET /ws HTTP/1.1\r\n\r\n").await);
    let now = metrics(server.admin).await;
    assert_eq!((now["server_turned_away_total"], now["server_accepted_total"]), (3.0, 2.0));

    // Those inside are served as before, and a place that is left is free.
    let broadcast = json!({"action": "broadcast", "tag": "shop", "message": "hi"});
    assert_eq!(first.ask(&json!({"action": "ping"})).await["ok"], "ping");
    second.close().await;
    server.until_counts("shop", (1, 0)).await;
    let posting = async {
        loop {
            // The closed one's place is free once its socket is.
            let (status, reply) = server.post(&broadcast).await;
            if status != 503 {
                return reply;
            }
        }
    };
    let reply = tokio::time::timeout(crate::harness::PATIENCE, posting).await.unwrap();
    assert_eq!(reply["clients"], 1);
    assert_eq!(first.message().await, "hi");
}

#[tokio::test]
async fn so_they_are_while_memory_is_scarce() {
    // More than any machine has.
    let server = Server::start(&["--spare-memory", "900TiB"]);
    told_to_come_back(&request(server.address, "GET /ws", &[], b"").await);
    let log = server.stop().await.output;
    assert!(log.contains("memory is running out"), "{log}");

    let calm = Server::start(&["--spare-memory", "0"]);
    assert_eq!(request(calm.address, "GET /ws", &[], b"").await.status, 426);
}

#[tokio::test]
async fn tags_and_registrations_have_a_bound_in_all() {
    let server = Server::start(&["--max-tags", "2", "--max-registrations", "3"]);
    let mut one = server.listener("a", None).await;
    one.set("b", None).await;
    let set = |tag: &str| json!({"action": "set", "tag": tag});
    let refusal = one.ask(&set("c")).await;
    assert_eq!(
        (&refusal["error"], &refusal["outcome"]),
        (&json!("unavailable"), &json!("refused"))
    );
    // What is registered already may be so anew.
    assert_eq!(one.ask(&set("b")).await["ok"], "set");
    let mut other = server.listener("b", None).await;
    assert_eq!(other.ask(&set("a")).await["error"], "unavailable");
    // Messages for a tag on which nobody listens are another thing.
    let broadcast = json!({"action": "broadcast", "tag": "c", "message": 1});
    assert_eq!(server.post(&broadcast).await.0, 200);
    one.close().await;
    server.until_counts("b", (1, 0)).await;
    other.set("c", None).await;
}

/// Their sockets are full, and what waits behind them is bounded in all: the more of them there are,
/// the less may wait for each.
#[tokio::test]
async fn all_that_waits_for_slow_readers_is_bounded() {
    let server = Server::start(&["--max-backlog", "1MiB", "--send-rate", "off"]);
    let mut reader = server.listener("shop", None).await;
    let mut stuck = Vec::new();
    for _ in 0..15 {
        stuck.push(server.listener("shop", None).await);
    }
    let message = "x".repeat(30_000);
    let broadcast = json!({"action": "broadcast", "tag": "shop", "message": message});
    // With 256 KiB for each they would have almost four times as much together. What is left of a
    // message that was begun, and the close frame, come on top.
    let most = f64::from((1 << 20) + 15 * 31_000);
    let mut clients = 16;
    let mut sent = 0;
    while clients > 1 {
        let (status, reply) = server.post(&broadcast).await;
        assert_eq!(status, 200, "{reply}");
        clients = reply["clients"].as_u64().unwrap();
        assert_eq!(reader.message().await, *message);
        sent += 1;
        assert!(sent < 2_000, "nobody is closed");
        let waiting = metrics(server.admin).await["server_outbox_bytes"];
        assert!(waiting <= most, "{waiting}");
    }
    for mut client in stuck {
        let mut got = 0;
        // Whole messages, then the code that says: come back and resume.
        let code = loop {
            match client.next_or_closed().await {
                Ok(delivery) => {
                    assert!(delivery.get("message").or(delivery.get("event")).is_some());
                    got += 1;
                }
                Err(code) => break code,
            }
        };
        assert_eq!(code, Some(4000));
        assert!(got < sent);
    }
}
