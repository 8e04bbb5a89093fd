//! Tests connections that begin with a PROXY protocol header.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Client, Server, exchange_over, program, proxy_line};
use crate::metrics::{metrics, until};

#[tokio::test]
async fn the_proxys_listener_demands_the_header_and_the_plain_one_never_reads_it() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0"]);
    let mut client = server.connect_from("192.0.2.7").await.unwrap();
    client.set("shop", None).await;

    let get = b"GET /client.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let proxied = server.proxied.unwrap();
    let mut stream = TcpStream::connect(proxied).await.unwrap();
    stream.write_all(get).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    assert!(answer.is_empty(), "{answer:?}");
    until(server.admin, "server_unintroduced_total", 1.0).await;

    let with_header = [proxy_line("192.0.2.7").as_bytes(), get].concat();
    let stream = TcpStream::connect(proxied).await.unwrap();
    assert_eq!(exchange_over(stream, &with_header).await.status, 200);
    for _ in 0..3 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(exchange_over(stream, &with_header).await.status, 400);
    }
    // If an operator mixes up the two ports, the log says so once.
    let log = server.stop().await.output;
    for told in ["connections=1 closed: no PROXY header", "connections=1 refused: a PROXY header"] {
        let kinds = [told, &told["connections=1 ".len()..]];
        assert_eq!(kinds.map(|words| log.matches(words).count()), [0, 1], "{told}: {log}");
    }
}

#[tokio::test]
async fn a_header_is_believed_from_those_who_are_trusted() {
    let options = ["--listen-proxy", "127.0.0.1:0", "--trust-proxy"];
    let stranger = Server::start(&[&options[..], &["192.0.2.0/24,2001:db8::1"]].concat());
    let mut stream = TcpStream::connect(stranger.proxied.unwrap()).await.unwrap();
    let _ = stream.write_all(proxy_line("192.0.2.7").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    assert!(answer.is_empty());
    until(stranger.admin, "server_unintroduced_total", 1.0).await;
    let log = stranger.stop().await.output;
    assert!(log.contains("not among those of --trust-proxy") && log.contains("127.0.0.1"), "{log}");

    let friend = Server::start(&[&options[..], &["127.0.0.1"]].concat());
    assert!(friend.connect_from("192.0.2.7").await.is_ok());
    assert_eq!(metrics(friend.admin).await["server_unintroduced_total"], 0.0);
}

struct Path {
    _dir: TempDir,
    path: PathBuf,
}

impl Path {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("server.sock");
        Self { _dir: dir, path }
    }

    fn option(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    async fn connect(&self) -> Client {
        let stream = UnixStream::connect(&self.path).await.unwrap();
        Client::connect_as_proxy(stream, "192.0.2.7").await.unwrap()
    }
}

#[tokio::test]
async fn a_socket_of_the_file_system_carries_everything() {
    let at = Path::new();
    let server = Server::start(&["--listen", &at.option()]);
    let mode = std::fs::metadata(&at.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut client = at.connect().await;
    client.set("shop", None).await;
    let (status, reply) =
        server.post(&json!({"action": "broadcast", "tag": "shop", "message": "hi"})).await;
    assert_eq!((status, &reply["clients"]), (200, &json!(1)));
    assert_eq!(client.message().await, "hi");
    // The message is larger than the socket's buffers, so the outbox has to wait for room.
    let long = "x".repeat(60_000);
    for _ in 0..20 {
        let message = json!({"action": "broadcast", "tag": "shop", "message": long});
        assert_eq!(server.post(&message).await.0, 200);
        assert_eq!(client.message().await, *long);
    }
    client.close().await;
    server.stop().await;
    assert!(!at.path.exists(), "nothing is left behind");
}

#[tokio::test]
async fn what_a_killed_server_left_is_removed_and_what_another_uses_is_not() {
    let at = Path::new();
    let killed = Server::start(&["--listen", &at.option()]);
    killed.signal(rustix::process::Signal::KILL);
    killed.ended().await;
    assert!(at.path.exists());

    let _running = Server::start(&["--listen", &at.option()]);
    at.connect().await.close().await;
    let second = program().args(["--listen", &at.option(), "--admin", "off"]).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(69), "{error}");
    assert!(error.contains("another program has it"), "{error}");
    at.connect().await.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_socket_stays() {
    let at = Path::new();
    std::fs::write(&at.path, "precious").unwrap();
    let output = program().args(["--listen", &at.option(), "--admin", "off"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{error}");
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&at.path).unwrap(), "precious");
}
