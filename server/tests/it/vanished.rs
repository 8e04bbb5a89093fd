//! Tests peers that disappear without a FIN, because the network forwards nothing any more.

use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::harness::{ALICE, Client, Server};

/// Connects a client through a relay. A message on the returned channel makes the relay keep both
/// sockets open and forward nothing.
async fn through_proxy(server: &Server) -> (Client, oneshot::Sender<()>) {
    let (listener, address) = testkit::listener().await;
    let target = server.address;
    let (freeze, frozen) = oneshot::channel();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            _ = frozen => std::future::pending().await,
        }
    });
    (Client::connect(address, "/ws", &[]).await.unwrap(), freeze)
}

#[tokio::test]
async fn a_peer_that_vanishes_without_fin_is_taken_off_both_lists() {
    let server = Server::start(&["--ping-interval", "300ms"]);
    let (mut alice, freeze) = through_proxy(&server).await;
    alice.set("t", Some(ALICE)).await;
    alice.next_ping().await;
    assert_eq!(server.counts("t").await, (1, 1));
    freeze.send(()).unwrap();
    server.until_counts("t", (0, 0)).await;
    let send = json!({"action":"send","tag":"t","id":ALICE,"message":1});
    assert_eq!(server.post(&send).await.1["clients"], 0);
}

#[tokio::test]
async fn a_pong_is_no_message_and_keeps_a_quiet_client() {
    let server = Server::start(&["--ping-interval", "300ms"]);
    let mut quiet = server.listener("t", Some(ALICE)).await;
    // The client sends unsolicited pongs with a payload between the pongs that answer a ping.
    for _ in 0..5 {
        quiet.send_raw(&[0x8a, 0x82, 0, 0, 0, 0, b'{', b'}']).await;
        quiet.next_ping().await;
    }
    server.post(&json!({"action":"broadcast","tag":"t","message":"first"})).await;
    assert_eq!(quiet.message().await, "first");
    assert_eq!(server.status().await["seq"], 1);
}

#[tokio::test]
async fn a_registered_client_that_stops_inside_a_frame_is_dead() {
    let server = Server::start(&["--ping-interval", "300ms"]);
    let mut client = server.listener("t", None).await;
    // The client has sent half a frame, so it cannot send pongs before the other half.
    client.send_raw(&[0x81, 0xfe, 0x10, 0x00, 0, 0, 0, 0, b'{']).await;
    assert_eq!(client.closed().await, Some(4001));
    assert_eq!(server.counts("t").await, (0, 0));
}
