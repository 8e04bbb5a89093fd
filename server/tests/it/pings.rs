//! Registered clients get pings. A client that does not answer is closed, and so is one that stays
//! idle.

use serde_json::json;

use crate::harness::{ALICE, Server};

#[tokio::test]
async fn only_registered_connections_are_pinged() {
    let server = Server::start(&["--ping-interval", "300ms"]);
    let mut stranger = server.connect().await;
    let mut alice = server.listener("t", Some(ALICE)).await;
    for _ in 0..3 {
        alice.next_ping().await;
    }
    assert_eq!(stranger.ask(&json!({"action":"ping"})).await, json!({"ok":"ping"}));
    assert_eq!(stranger.pings, 0);
    // The client answered its pings, so it is still connected.
    server.post(&json!({"action":"send","tag":"t","id":ALICE,"message":"still"})).await;
    assert_eq!(alice.message().await, "still");

    assert_eq!(alice.ask(&json!({"action":"unset","tag":"t"})).await["ok"], "unset");
    stranger.set("t", None).await;
    let pings = alice.pings;
    for _ in 0..3 {
        stranger.next_ping().await;
    }
    assert_eq!(alice.ask(&json!({"action":"ping"})).await["ok"], "ping");
    assert_eq!(alice.pings, pings);
}

#[tokio::test]
async fn who_does_not_answer_pings_is_taken_off_both_lists() {
    let server = Server::start(&["--ping-interval", "300ms"]);
    let mut mute = server.listener("t", Some(ALICE)).await;
    let mut lively = server.listener("t", None).await;
    assert_eq!(server.counts("t").await, (2, 1));
    // The client of this test answers pings only while it reads frames.
    let waiting = server.until_counts("t", (1, 0));
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            () = &mut waiting => break,
            () = lively.next_ping() => {}
        }
    }
    assert_eq!(mute.closed().await, Some(4001));
    server.post(&json!({"action":"broadcast","tag":"t","message":"here"})).await;
    assert_eq!(lively.message().await, "here");
}

#[tokio::test]
async fn who_is_good_for_nothing_is_closed() {
    let server = Server::start(&["--idle-timeout", "500ms"]);
    let mut listener = server.listener("t", None).await;
    let mut idle = server.connect().await;
    // An action that fails does not count as activity.
    let mut wrong = server.connect().await;
    assert_eq!(wrong.ask(&json!({"action":"sing"})).await["error"], "unknown_action");
    assert_eq!(idle.closed().await, Some(4002));
    assert_eq!(wrong.closed().await, Some(4002));
    // A registered client may be idle.
    server.post(&json!({"action":"broadcast","tag":"t","message":"here"})).await;
    assert_eq!(listener.message().await, "here");
    // Without a registration the idle timeout applies again.
    assert_eq!(listener.ask(&json!({"action":"unset","tag":"t"})).await["ok"], "unset");
    assert_eq!(listener.closed().await, Some(4002));
}
