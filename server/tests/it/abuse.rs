//! Tests what happens when hostile clients send invalid or endless data over a WebSocket.

use serde_json::json;

use crate::harness::Server;
use crate::metrics::{metrics, until};

#[path = "../../src/conn/frame/client.rs"]
mod client;

use client::client_frame as frame;

#[tokio::test]
async fn errors_leave_the_connection_open() {
    let server = Server::start(&[]);
    let mut client = server.connect().await;
    let deep = format!(
        r#"{{"action":"broadcast","tag":"t","message":{}{}}}"#,
        "[".repeat(64),
        "]".repeat(64)
    );
    let large = format!(r#"{{"action":"broadcast","tag":"t","message":"{}"}}"#, "x".repeat(65_535));
    for (text, error) in [
        ("no json", "bad_request"),
        ("[]", "bad_request"),
        (r#"{"action":"sing"}"#, "unknown_action"),
        (r#"{"action":"set","tag":"a b"}"#, "bad_tag"),
        (r#"{"action":"set","tag":"t","colour":1}"#, "bad_request"),
        (r#"{"action":"set","tag":"t","tag":"u"}"#, "bad_request"),
        (&deep, "bad_request"),
        (&large, "too_large"),
    ] {
        client.send_text(text).await;
        let reply = client.next().await;
        assert_eq!(reply["error"], error, "{}", &text[..text.len().min(80)]);
        assert!(reply["detail"].as_str().unwrap().len() > 10);
    }
    assert_eq!(client.ask(&json!({"action":"ping"})).await, json!({"ok":"ping"}));
}

#[tokio::test]
async fn what_breaks_rfc_6455_is_closed_with_its_code_and_harms_nobody() {
    let server = Server::start(&[]);
    let mut bystander = server.listener("t", None).await;
    let too_long = frame(0x81, &vec![b' '; 128 * 1024 + 1]);
    for (bytes, code) in [
        (vec![0x81, 2, b'{', b'}'], 1002),
        (frame(0xc1, b"{}"), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x80, b""), 1002),
        (frame(0x09, b""), 1002),
        (frame(0x82, b"{}"), 1003),
        (frame(0x81, &[0xff]), 1007),
        (too_long, 1009),
    ] {
        let mut client = server.connect().await;
        client.set("t", None).await;
        client.send_raw(&bytes).await;
        assert_eq!(client.closed().await, Some(code), "{:?}", &bytes[..2]);
    }
    server.until_counts("t", (1, 0)).await;
    server.post(&json!({"action":"broadcast","tag":"t","message":1})).await;
    assert_eq!(bystander.message().await, 1);
}

#[tokio::test]
async fn fragments_with_pings_between_them_make_one_message() {
    let server = Server::start(&[]);
    let mut client = server.connect().await;
    client.send_raw(&frame(0x01, br#"{"action":"#)).await;
    client.send_raw(&frame(0x89, b"")).await;
    for byte in frame(0x80, br#""ping"}"#) {
        client.send_raw(&[byte]).await;
    }
    client.next_pong().await;
    assert_eq!(client.next().await, json!({"ok":"ping"}));
}

#[tokio::test]
async fn half_a_frame_and_silence_ends_with_the_idle_limit() {
    let server = Server::start(&["--idle-timeout", "300ms"]);
    let mut client = server.connect().await;
    client.send_raw(&frame(0x81, br#"{"action":"ping"}"#)[..9]).await;
    assert_eq!(client.closed().await, Some(4002));
}

/// The idle timeout closes even a registered client in the middle of a message, although a
/// registered client may otherwise stay silent.
#[tokio::test]
async fn a_message_that_is_begun_is_not_waited_for_for_ever() {
    let server = Server::start(&["--idle-timeout", "300ms"]);
    let mut client = server.listener("t", None).await;
    client.send_raw(&frame(0x01, br#"{"action":"#)).await;
    assert_eq!(client.closed().await, Some(4002));
    let mut client = server.listener("t", None).await;
    client.send_raw(&frame(0x81, br#"{"action":"ping"}"#)[..9]).await;
    assert_eq!(client.closed().await, Some(4002));
}

#[tokio::test]
async fn all_messages_that_are_begun_are_bounded_together() {
    let server = Server::start(&["--max-backlog", "8MiB"]);
    let mut reader = server.listener("t", None).await;
    let piece = frame(0x01, &[b' '; 60_000]);
    let mut begun = Vec::new();
    let closed = loop {
        let mut client = server.listener("t", None).await;
        client.send_raw(&piece).await;
        // The server may answer the first ping before it checks the limit. It answers the second
        // ping after the check.
        client.send_raw(&frame(0x89, b"")).await;
        let mut answered = client.next_pong_or_closed().await;
        if answered.is_ok() {
            client.send_raw(&frame(0x89, b"")).await;
            answered = client.next_pong_or_closed().await;
        }
        match answered {
            Ok(()) => begun.push(client),
            Err(code) => break code,
        }
        assert!(begun.len() < 200, "all of them have room");
    };
    assert_eq!(closed, Some(4000));
    assert!(begun.len() > 20, "{}", begun.len());
    let waiting = metrics(server.admin).await["server_outbox_bytes"];
    assert!((1e6..f64::from(8 << 20)).contains(&waiting), "{waiting}");
    // The other connections are still served, and an unfinished message stops counting once it is
    // finished or its connection is closed.
    assert_eq!(reader.ask(&json!({"action":"ping"})).await, json!({"ok":"ping"}));
    for mut client in begun {
        client.send_raw(&frame(0x80, br#"{"action":"ping"}"#)).await;
        assert_eq!(client.next().await, json!({"ok":"ping"}));
    }
    until(server.admin, "server_outbox_bytes", 0.0).await;
}

#[tokio::test]
async fn a_closing_handshake_echoes_the_code() {
    let server = Server::start(&[]);
    let mut client = server.listener("t", None).await;
    client.send_raw(&frame(0x88, &3000u16.to_be_bytes())).await;
    assert_eq!(client.closed().await, Some(3000));
    assert_eq!(server.counts("t").await, (0, 0));
}
