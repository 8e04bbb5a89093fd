//! The server stops at SIGTERM and at SIGINT.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::service_manager::NotifySocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{ALICE, Client, Server, post_head};
use crate::metrics::{metrics, until};

/// The time limit for the end of the server, which takes at most 2 s. The limit is twice as long
/// for a busy machine.
const END: Duration = Duration::from_secs(4);

#[tokio::test]
async fn sigterm_tells_the_clients_and_ends_well() {
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

/// The connection was accepted before the signal, so its request is answered.
#[tokio::test]
async fn a_connection_that_comes_right_before_the_end_may_still_ask() {
    let told = NotifySocket::new();
    let environment = [("NOTIFY_SOCKET", told.path().to_str().unwrap().to_owned())];
    let server = Server::start_with(&environment, &[]);
    let mut late = TcpStream::connect(server.address).await.unwrap();
    until(server.admin, "server_connections", 1.0).await;
    server.signal(Signal::TERM);
    told.until("STOPPING=1");
    let body = json!({"action": "broadcast", "tag": "shop", "message": 1}).to_string();
    late.write_all((post_head(body.len()) + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert_eq!(server.ended().await.status.code(), Some(0));
}

#[tokio::test]
async fn sigint_ends_it_too_and_silent_clients_do_not_hold_it_up() {
    let server = Server::start(&[]);
    // This client never reads and never closes.
    let _silent = server.listener("t", None).await;
    let _no_request = TcpStream::connect(server.address).await.unwrap();
    server.signal(Signal::INT);
    let ended = server.ended().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
}

/// The silent connections have not sent their PROXY header.
#[tokio::test]
async fn silent_proxies_do_not_hold_it_up_either() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("server.sock");
    let unix = format!("unix:{}", path.display());
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0", "--listen", &unix]);
    let _silent = TcpStream::connect(server.proxied.unwrap()).await.unwrap();
    let _as_silent = UnixStream::connect(&path).await.unwrap();
    until(server.admin, "server_connections", 2.0).await;
    let log = server.stop().await.output;
    assert!(log.contains("every connection was ended"), "{log}");
}

#[tokio::test]
async fn neither_who_does_not_read_nor_who_has_not_finished_holds_it_up() {
    let server = Server::start(&[]);
    let _full = unread(&server).await;
    // These connections stay in the middle of a request head, a body and a frame.
    let mut halves = Vec::new();
    let body = "POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"action\"";
    for half in ["GET /ws HTTP/1.1\r\nHost: ", body] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        halves.push(stream);
    }
    let mut amid = server.listener("u", None).await;
    amid.send_raw(&[0x81, 0xfe, 0x10, 0, 1, 2, 3, 4, 5]).await;
    until(server.admin, "server_connections", 4.0).await;
    stops_in_time(server).await;
}

/// Stops the server, which must end within the time limit. Returns its output.
pub(crate) async fn stops_in_time(server: Server) -> String {
    server.signal(Signal::TERM);
    let begun = Instant::now();
    let ended = server.ended().await;
    let took = begun.elapsed();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    assert!(took < END, "{took:?}: {}", ended.output);
    ended.output
}

/// Returns a client that reads nothing, and whose outbox has more bytes than its socket takes.
async fn unread(server: &Server) -> Client {
    let client = server.listener("t", None).await;
    let broadcast = json!({"action":"broadcast","tag":"t","message":"x".repeat(60_000)});
    for _ in 0..2_000 {
        let reply: (u16, Value) = server.post(&broadcast).await;
        assert_eq!(reply.1["clients"], 1, "{reply:?}");
        if metrics(server.admin).await["server_outbox_bytes"] > 0.0 {
            return client;
        }
    }
    panic!("its socket takes everything");
}
