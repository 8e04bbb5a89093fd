//! Admission of connections: those beyond a limit, and the limits on all clients together.

use serde_json::{Value, json};
use testkit::soon;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Server, exchange_over, post_head, program, proxy_line, request};
use crate::metrics::metrics;

/// Checks that the answer is a 503 with `Retry-After` and a body that programs can parse.
pub(crate) fn told_to_come_back(answer: &Answer) {
    assert_eq!(answer.status, 503);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((3..10).contains(&wait));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let reply: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&reply["error"], &reply["outcome"]), (&json!("unavailable"), &json!("refused")));
    assert!(reply["detail"].as_str().unwrap().contains("come back"), "{reply}");
}

pub(crate) const UPGRADE: &[&str] =
    &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
pub(crate) const KEY: &str = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";

#[tokio::test]
async fn beyond_the_last_place_nobody_comes_to_listen_but_senders_do() {
    let server = Server::start(&["--max-connections", "2", "--listen-proxy", "127.0.0.1:0"]);
    let mut first = server.listener("shop", None).await;
    let second = server.listener("shop", None).await;
    let upgrade = [UPGRADE, &[KEY]].concat();
    told_to_come_back(&request(server.address, "GET /ws", &upgrade, b"").await);
    let head = upgrade.join("\r\n");
    let through_a_proxy = [proxy_line("192.0.2.7"), format!("GET /ws HTTP/1.1\r\n{head}\r\n\r\n")];
    let stream = TcpStream::connect(server.proxied.unwrap()).await.unwrap();
    told_to_come_back(&exchange_over(stream, through_a_proxy.concat().as_bytes()).await);

    // Senders are still served, but their connections are closed after one answer.
    let broadcast = json!({"action": "broadcast", "tag": "shop", "message": "hi"}).to_string();
    let post = post_head(broadcast.len()) + &broadcast;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let answer = exchange_over(stream, post.repeat(2).as_bytes()).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    assert_eq!(first.message().await, "hi");
    assert_eq!(first.ask(&json!({"action": "ping"})).await["ok"], "ping", "one was answered");
    let now = metrics(server.admin).await;
    assert_eq!(now["server_turned_away_total"], 2.0);

    // A client that leaves makes room for another.
    second.close().await;
    server.until_counts("shop", (1, 0)).await;
    let coming = async {
        loop {
            // The closed client counts until its socket is gone.
            match server.connect_with(&[]).await {
                Ok(client) => return client,
                Err(status) => assert_eq!(status, 503),
            }
        }
    };
    let mut third = soon(coming).await;
    third.set("shop", None).await;
    let log = server.stop().await.output;
    assert_eq!(log.matches("the limit of connections is reached").count(), 1, "{log}");
}

#[tokio::test]
async fn even_senders_are_bounded() {
    let server = Server::start(&["--max-connections", "1"]);
    let listener = server.listener("shop", None).await;
    // These connections could each send a request, but none does.
    let mut silent = Vec::new();
    let answer = loop {
        let broadcast = json!({"action": "broadcast", "tag": "shop", "message": "hi"}).to_string();
        let answer = request(server.address, "POST /messages", &[], broadcast.as_bytes()).await;
        if answer.status != 200 {
            break answer;
        }
        silent.push(TcpStream::connect(server.address).await.unwrap());
        // The oldest of these connections are closed after 5 s.
        assert!(silent.len() < 20 * server::limits::BRIEF);
    };
    told_to_come_back(&answer);
    // An answered connection counts until it is closed. Some may have made room meanwhile, so more
    // connections are opened until the server is full again.
    let large = loop {
        let answer = request(server.address, "POST /messages", &[], &[b'x'; 100_000]).await;
        if answer.status != 400 {
            break answer;
        }
        silent.push(TcpStream::connect(server.address).await.unwrap());
        assert!(silent.len() < 20 * server::limits::BRIEF);
    };
    told_to_come_back(&large);
    drop((silent, listener));
}

/// The stop does not wait for these connections to send a request or to close, which would take
/// half a minute.
#[tokio::test]
async fn who_is_turned_away_and_stays_silent_keeps_nobody_out() {
    const STRANGERS: usize = 900;
    let server = Server::start(&["--max-connections", "1"]);
    let listener = server.listener("shop", None).await;
    let mut silent = Vec::new();
    for _ in 0..server::limits::BRIEF + STRANGERS {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // The newest connection is refused, so no connection waits for room.
    told_to_come_back(&exchange_over(silent.pop().unwrap(), b"").await);
    listener.close().await;
    let coming = async {
        loop {
            // The closed client counts until its socket is gone. Until then the server refuses the
            // new client, and the answer may get lost.
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            let head = [UPGRADE, &[KEY]].concat().join("\r\n");
            let _ =
                stream.write_all(format!("GET /ws HTTP/1.1\r\n{head}\r\n\r\n").as_bytes()).await;
            let mut status = [0; 12];
            if stream.read_exact(&mut status).await.is_ok() && status == *b"HTTP/1.1 101" {
                return;
            }
        }
    };
    soon(coming).await;
}

#[tokio::test]
async fn while_memory_is_scarce_everyone_is_told_to_come_back() {
    // The option asks for more memory than any machine has.
    let server = Server::start(&["--spare-memory", "900TiB"]);
    told_to_come_back(&request(server.address, "GET /ws", &[], b"").await);
    told_to_come_back(&request(server.address, "POST /messages", &[], &[b'x'; 100_000]).await);
    let mut command = program();
    command.args(["broadcast", "--tag", "shop", "--to", &server.url(), "hi"]);
    let output = testkit::output(command).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(errors.contains("this server is full"), "{errors}");
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
    // An existing registration may be renewed.
    assert_eq!(one.ask(&set("b")).await["ok"], "set");
    let mut other = server.listener("b", None).await;
    assert_eq!(other.ask(&set("a")).await["error"], "unavailable");
    // Publishing to a tag without listeners is not limited by the number of tags.
    let broadcast = json!({"action": "broadcast", "tag": "c", "message": 1});
    assert_eq!(server.post(&broadcast).await.0, 200);
    one.close().await;
    server.until_counts("b", (1, 0)).await;
    other.set("c", None).await;
}

const STUCK: u32 = 60;

/// The sockets of slow clients are full, and all outboxes share one limit. The more slow clients
/// there are, the fewer bytes may wait for each.
#[tokio::test]
async fn all_that_waits_for_slow_readers_is_bounded() {
    let server = Server::start(&["--max-backlog", "8MiB", "--send-rate", "off"]);
    let mut reader = server.listener("shop", None).await;
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        stuck.push(server.listener("shop", None).await);
    }
    let message = "x".repeat(30_000);
    let broadcast = json!({"action": "broadcast", "tag": "shop", "message": message});
    // With 256 KiB for each client the outboxes would hold almost twice the limit. Partly written
    // messages and the close frames may exceed the limit, so 31,000 bytes are added for each slow
    // client.
    let most = f64::from((8 << 20) + STUCK * 31_000);
    let mut clients = u64::from(STUCK) + 1;
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
    // All are read at the same time: the server waits 10 s at most for a client that it has closed.
    let reading = stuck.into_iter().map(async |mut client| {
        let mut got = 0;
        // Each client gets whole messages, and then the close code that tells it to reconnect and
        // resume.
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
    });
    futures_util::future::join_all(reading).await;
}
