//! Tests the server under a service manager: sockets that outlive the server, and notifications.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use rustix::process::Signal;
use serde_json::json;
use testkit::Process;
use testkit::service_manager::NotifySocket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Client, Stream, request};
use crate::manager::Given;

const NO_OPTIONS: [&str; 0] = [];

/// Starts a server and waits for its notification `READY=1`.
fn start(given: &Given, told: &NotifySocket, environment: &[(&str, &OsStr)]) -> Process {
    let path = [("NOTIFY_SOCKET", told.path().as_os_str())];
    let running = given.start(&[&path[..], environment].concat(), &NO_OPTIONS);
    told.until("READY=1");
    running
}

#[tokio::test]
async fn requests_wait_in_the_given_socket_while_the_server_is_restarted() {
    let (given, told) = (Given::new(), NotifySocket::new());
    let address = given.address();
    for _ in 0..3 {
        // No server accepts connections yet, but the client is not refused.
        let waiting = tokio::spawn(async move { request(address, "GET /ws", &[], b"").await });
        tokio::task::yield_now().await;
        let mut running = start(&given, &told, &[("WATCHDOG_USEC", "200000".as_ref())]);
        assert_eq!(waiting.await.unwrap().status, 426);
        told.until("WATCHDOG=1");
        running.signal(Signal::TERM);
        told.until("STOPPING=1");
        assert_eq!(running.wait().code(), Some(0));
    }
}

/// Returns the answer to a client without a PROXY header. It is empty where the header is required.
async fn answer_without_header(mut stream: impl Stream) -> String {
    let asked = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // The server may have closed the connection already.
    let _ = stream.write_all(asked).await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

fn proxied() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_given_socket_named_proxy_tells_addresses_apart_and_any_other_is_plain() {
    let (socket, address) = proxied();
    let (given, told) = (Given::new().and(socket, "proxy"), NotifySocket::new());
    let _running = start(&given, &told, &[("TOCSIN_CONNECT_RATE", "1:2".as_ref())]);
    let to = async |address: SocketAddr| TcpStream::connect(address).await.unwrap();

    assert_eq!(answer_without_header(to(address).await).await, "");
    let plain = answer_without_header(to(given.address()).await).await;
    assert!(plain.starts_with("HTTP/1.1 426 "), "{plain}");

    let mut granted = 0;
    let refusal = loop {
        match Client::connect_as_proxy(to(address).await, "192.0.2.7").await {
            Ok(_client) => granted += 1,
            Err(refusal) => break refusal,
        }
        assert!(granted < 100, "never too often");
    };
    assert!(refusal == (429, Some("1".into())) && granted >= 2, "{granted}, {refusal:?}");
    assert!(Client::connect_as_proxy(to(address).await, "192.0.2.8").await.is_ok());
    // On a socket without PROXY headers, connections from this machine are not counted by address.
    for _ in 0..5 {
        Client::connect(given.address(), "/ws", &[]).await.unwrap().close().await;
    }
    assert!(!given.log().contains("not used"), "{}", given.log());
}

#[tokio::test]
async fn a_given_socket_named_proxy_believes_those_who_are_trusted() {
    let (socket, address) = proxied();
    let (given, told) = (Given::new().and(socket, "proxy"), NotifySocket::new());
    let _running = start(&given, &told, &[("TOCSIN_TRUST_PROXY", "192.0.2.0/24".as_ref())]);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(b"PROXY UNKNOWN\r\n").await;
    assert_eq!(answer_without_header(stream).await, "");
    assert!(given.log().contains("not among those of --trust-proxy"), "{}", given.log());
}

#[tokio::test]
async fn a_given_unix_socket_demands_the_header_and_its_file_stays() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("server.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let given = Given::new().and(proxied().0, "proxy").and(socket, "tocsin-server-unix.socket");
    let told = NotifySocket::new();
    for _ in 0..2 {
        let mut running = start(&given, &told, &[]);
        let to = async || UnixStream::connect(&path).await.unwrap();
        assert_eq!(answer_without_header(to().await).await, "");
        let mut client = Client::connect_as_proxy(to().await, "192.0.2.7").await.unwrap();
        client.set("shop", None).await;
        let message = json!({"action": "broadcast", "tag": "shop", "message": "hi"}).to_string();
        request(given.address(), "POST /messages", &[], message.as_bytes()).await;
        assert_eq!(client.message().await, "hi");
        running.signal(Signal::TERM);
        assert_eq!(running.wait().code(), Some(0));
        told.until("STOPPING=1");
        assert!(path.exists(), "it is the manager's");
    }
}

#[tokio::test]
async fn addresses_that_were_asked_for_are_not_used_beside_given_sockets_and_that_is_said() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("server.toml");
    std::fs::write(&file, "listen = [\"127.0.0.1:1\"]\n").unwrap();
    for (variable, value, told_of) in [
        ("TOCSIN_LISTEN", "127.0.0.1:1".as_ref(), "--listen not used"),
        ("TOCSIN_LISTEN_PROXY", "127.0.0.1:1".as_ref(), "--listen-proxy not used"),
        ("TOCSIN_CONFIG", file.as_os_str(), "--listen not used"),
    ] {
        let (given, told) = (Given::new(), NotifySocket::new());
        // If the server tried to bind port 1, the start would fail, or succeed as root.
        let mut running = start(&given, &told, &[(variable, value)]);
        assert!(given.log().contains(told_of), "{variable}: {}", given.log());
        assert!(TcpStream::connect("127.0.0.1:1").await.is_err());
        running.signal(Signal::TERM);
        assert_eq!(running.wait().code(), Some(0));
    }
}

/// The number of clients that are connected when the server is restarted.
const LISTENERS: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_thousands_of_listeners_and_a_publisher_refuses_nobody() {
    let _files = shared::descriptors::raise_limit();
    let (given, told) = (Given::new(), NotifySocket::new());
    let address = given.address();
    // The test reads the listeners one after the other, so pings must not close those that are read
    // late.
    let environment = [("TOCSIN_PING_INTERVAL", OsStr::new("10m"))];
    let mut running = start(&given, &told, &environment);
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        listeners.push(listen(address).await);
    }
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    // The publisher opens a connection for each message, one after the other, as PHP does.
    let publisher = tokio::spawn(async move {
        let message = json!({"action": "broadcast", "tag": "shop", "message": 1}).to_string();
        let mut reached = Vec::new();
        while !*stopped.borrow_and_update() {
            let answer = request(address, "POST /messages", &[], message.as_bytes()).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let reply: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            reached.push((reply["seq"].as_u64().unwrap(), reply["clients"].as_u64().unwrap()));
            begun.take().map(|begun| begun.send(()));
        }
        reached
    });

    begins.await.unwrap();
    running.signal(Signal::TERM);
    let (mut waits, mut counts) = (Vec::new(), Vec::new());
    for listener in listeners {
        let (wait, messages) = shutdown_notice(listener).await;
        waits.push(wait);
        counts.push(messages);
    }
    assert_eq!(running.wait().code(), Some(0));
    // Each client gets a delay of its own, so that the clients come back spread over time.
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > LISTENERS / 4 && *waits.last().unwrap() < 5_000, "{}", waits.len());

    let _next = start(&given, &told, &environment);
    let mut again = Vec::new();
    for _ in 0..LISTENERS {
        again.push(listen(address).await);
    }
    stop.send(true).unwrap();
    let reached = publisher.await.unwrap();
    // The next server's sequence numbers begin at 1 again.
    let first = reached.iter().zip(&reached[1..]).take_while(|((seq, _), (next, _))| seq < next);
    let first = first.count() as u64 + 1;
    assert_eq!(reached[0], (1, LISTENERS as u64));
    // Each client received every message that the first server had accepted.
    assert!(counts.iter().all(|count| *count == first), "{first}: {:?}", counts.iter().min());
    let message = json!({"action": "broadcast", "tag": "shop", "message": 2}).to_string();
    let last = request(address, "POST /messages", &[], message.as_bytes()).await;
    let last: serde_json::Value = serde_json::from_str(&last.body).unwrap();
    assert_eq!(last["clients"], LISTENERS);
}

async fn listen(address: SocketAddr) -> Client {
    let mut client = Client::connect(address, "/ws", &[]).await.unwrap();
    client.send(&json!({"action": "set", "tag": "shop"})).await;
    assert_eq!(client.next().await["ok"], "set");
    client
}

/// Returns the delay that the `bye` event names, and the number of messages before it.
async fn shutdown_notice(mut client: Client) -> (u64, u64) {
    let (mut wait, mut messages) = (None, 0);
    loop {
        match client.next_or_closed().await {
            Ok(text) if text["event"] == "bye" => wait = text["retry_in_ms"].as_u64(),
            Ok(text) => messages += u64::from(!text["message"].is_null()),
            Err(code) => {
                assert_eq!(code, Some(1001));
                return (wait.expect("no bye before the end"), messages);
            }
        }
    }
}
