//! SIGTERM.

use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::{ALICE, Server};

#[tokio::test]
async fn sigterm_says_goodbye_and_ends_well() {
    let server = Server::start(&[]);
    let address = server.address;
    let mut alice = server.listener("t", Some(ALICE)).await;
    let mut sender = server.connect().await;
    let sent = json!({"action":"send","tag":"t","id":ALICE,"message":"before the end"});
    assert_eq!(sender.ask(&sent).await["clients"], 1);

    server.signal(Signal::TERM);
    assert_eq!(alice.message().await, "before the end");
    let bye = alice.next().await;
    assert_eq!(bye["event"], "bye");
    assert!(bye["retry_in_ms"].as_u64().unwrap() < 60_000);
    assert_eq!(alice.closed().await, Some(1001));
    assert_eq!(sender.next().await["event"], "bye");
    assert_eq!(sender.closed().await, Some(1001));
    let ended = server.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    assert!(ended.output.contains("every connection was ended"), "{}", ended.output);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn sigint_ends_it_too_and_silent_clients_do_not_hold_it_up() {
    let server = Server::start(&[]);
    // Never reads, never closes.
    let _silent = server.listener("t", None).await;
    let _no_request = TcpStream::connect(server.address).await.unwrap();
    server.signal(Signal::INT);
    let ended = server.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
}
