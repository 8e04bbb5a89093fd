//! Tests the order of messages, bursts, and clients that read too slowly.

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::harness::{ALICE, BOB, Client, Server};
use crate::metrics::until;

#[tokio::test]
async fn a_burst_arrives_whole_and_in_order_everywhere() {
    let server = Server::start(&["--send-rate", "off"]);
    let mut clients = Vec::new();
    for number in 0..40 {
        let id = (number % 4 == 0).then_some(ALICE);
        clients.push((id, server.listener("t", id).await));
    }
    // Broadcasts and direct messages alternate, so that batches contain both.
    let batch: Vec<Value> = (0..600)
        .map(|number| match number % 3 {
            0 => json!({"action":"send","tag":"t","id":ALICE,"message":number}),
            _ => json!({"action":"broadcast","tag":"t","message":number}),
        })
        .collect();
    let (status, replies) = server.post(&json!(batch)).await;
    assert_eq!((status, replies.as_array().unwrap().len()), (200, 600));
    for (id, client) in &mut clients {
        let mut last = 0;
        for number in (0..600).filter(|number| id.is_some() || number % 3 != 0) {
            let delivery = client.next().await;
            assert_eq!(delivery["message"], number);
            assert!(delivery["seq"].as_u64().unwrap() > last);
            last = delivery["seq"].as_u64().unwrap();
        }
    }
}

#[tokio::test]
async fn a_registration_in_the_middle_of_a_stream_starts_exactly_after_its_live_event() {
    let server = Server::start(&[]);
    let _first = server.listener("t", None).await;
    let mut sender = server.connect().await;
    for number in 0..300 {
        sender.send(&json!({"action":"broadcast","tag":"t","message":number})).await;
        if number % 10 != 0 {
            continue;
        }
        let mut late = server.connect().await;
        late.send(&json!({"action":"set","tag":"t"})).await;
        let reply = late.next().await;
        assert_eq!(reply["ok"], "set", "the reply comes first: {reply}");
        let live = late.next().await;
        assert_eq!(live["event"], "live");
        sender.send(&json!({"action":"broadcast","tag":"t","message":"next"})).await;
        let next = late.next().await;
        assert_eq!(next["seq"].as_u64().unwrap(), live["seq"].as_u64().unwrap() + 1);
    }
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_requests() {
    let server = Server::start(&[]);
    let mut client = server.connect().await;
    for number in 0..200 {
        let action = match number % 4 {
            0 => json!({"action":"broadcast","tag":"x","message":1,"ref":number}),
            1 => json!({"action":"ping","ref":number}),
            2 => json!({"action":"set","tag":"y","ref":number}),
            _ => json!({"action":"sing","ref":number}),
        };
        client.send(&action).await;
    }
    let mut number = 0;
    while number < 200 {
        let frame = client.next().await;
        if frame["event"] != "live" {
            assert_eq!(frame["ref"], number);
            number += 1;
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_nobody_else_waits() {
    let server = Server::start(&[]);
    let mut slow = server.listener("t", None).await;
    let mut quick = server.listener("t", None).await;
    let text = "x".repeat(60_000);
    let broadcast = json!({"action":"broadcast","tag":"t","message":text});
    // These are more bytes than the kernel's buffers and the outbox hold together.
    let mut sent = 0;
    while server.counts("t").await.0 == 2 {
        assert_eq!(server.post(&broadcast).await.0, 200);
        sent += 1;
        assert_eq!(quick.message().await, text);
        assert!(sent < 2_000, "the slow client was never closed");
    }
    server.post(&json!({"action":"broadcast","tag":"t","message":"last"})).await;
    assert_eq!(quick.message().await, "last");
    // Now the slow client reads. It gets whole frames, and then the close code.
    assert_eq!(slow.closed().await, Some(4000));
    let counted = "server_closes_total{by=\"server\",code=\"4000\"}";
    let now = until(server.admin, counted, 1.0).await;
    let closes = now.iter().filter(|(name, _)| name.starts_with("server_closes_total"));
    assert_eq!(closes.map(|(_, count)| count).sum::<f64>(), 1.0);
}

/// Each listener gets each message before the next one is sent, while one client reads nothing.
#[tokio::test]
async fn a_thousand_go_on_beside_one_that_never_reads() {
    // A ping would be mistaken for a message, so the interval is longer than the test.
    let server = Server::start(&["--ping-interval", "10m"]);
    let mut readers = Vec::new();
    for _ in 0..1_000 {
        readers.push(server.listener("t", None).await);
    }
    // The receive buffer of the silent client is small, so that most unread messages stay in its
    // outbox.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let url = format!("ws://{}/ws", server.address);
    let mut silent = Client::over(stream, &url, &[]).await.unwrap();
    silent.set("t", None).await;
    let mut bytes = vec![0; 64 * 1024];
    for number in 0.. {
        let message = format!("{number:08}{}", "x".repeat(50_000));
        let broadcast = json!({"action":"broadcast","tag":"t","message":message});
        let (status, reply) = server.post(&broadcast).await;
        assert_eq!(status, 200);
        if reply["clients"] == 1_000 {
            break;
        }
        assert!(number < 500, "the silent client was never closed");
        let first = readers[0].next_text().await;
        assert!(first.contains(&message));
        for reader in &mut readers[1..] {
            let (head, text) = bytes[..4 + first.len()].split_at_mut(4);
            reader.read_raw(head).await;
            reader.read_raw(text).await;
            assert_eq!(u16::from_be_bytes([head[2], head[3]]), u16::try_from(first.len()).unwrap());
            assert!(text == first.as_bytes());
        }
    }
    assert_eq!(silent.closed().await, Some(4000));
}

#[tokio::test]
async fn a_message_sent_again_under_its_mid_is_delivered_once() {
    let server = Server::start(&[]);
    let mut alice = server.listener("t", Some(ALICE)).await;
    let send = |id: &str, message: &str| json!({"action":"send","tag":"t","id":id,"message":message,"mid":"order-77"});
    let (_, first) = server.post(&send(ALICE, "shipped")).await;
    let (status, again) = server.post(&send(ALICE, "shipped")).await;
    assert_eq!((status, &again["seq"], &again["clients"]), (200, &first["seq"], &json!(1)));
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&Value::Null, &json!(true)));
    let (status, conflict) = server.post(&send(ALICE, "lost")).await;
    assert_eq!((status, &conflict["error"]), (400, &json!("mid_conflict")));
    // The same mid with another ID, or in a broadcast, is another message.
    assert_eq!(server.post(&send(BOB, "other")).await.1["ok"], "send");
    let broadcast = json!({"action":"broadcast","tag":"t","message":"all","mid":"order-77"});
    server.post(&broadcast).await;
    assert_eq!(alice.message().await, "shipped");
    assert_eq!(alice.message().await, "all");
}

#[tokio::test]
async fn messages_arrive_byte_for_byte() {
    let server = Server::start(&[]);
    let mut client = server.listener("t", None).await;
    for text in [
        r#""<script>alert('\"')</script>""#,
        "\"\u{2028}\u{1f514} \\u00e4\"",
        "9007199254740993",
        "1.50",
        "-0.0e+10",
        r#"{"b":1,"a":[null,true,{}],"b":2}"#,
    ] {
        let body = format!(r#"{{"action":"broadcast","tag":"t","message":{text}}}"#);
        assert_eq!(server.post_with(&body, &[]).await.0, 200);
        let frame = client.next_text().await;
        assert!(frame.ends_with(&format!(r#","message":{text}}}"#)), "{frame}");
    }
}
