//! A backend that listens on a Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::harness::{Gate, NEVER, VERSIONS, carries_both_ways, noise, rest, soon};
use crate::proxy_protocol::read_version_2;

/// More bytes than the buffers of all sockets between the two ends hold.
const MUCH: usize = 8 * 1024 * 1024;

/// A writer without progress for this long counts as blocked.
const STOPPED: Duration = Duration::from_millis(500);

/// A path for a socket in a new directory, and the gate's argument for it.
fn place() -> (TempDir, PathBuf, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("backend.sock");
    let argument = format!("unix:{}", path.display());
    (dir, path, argument)
}

async fn accept(listener: &UnixListener) -> UnixStream {
    soon(listener.accept()).await.unwrap().0
}

#[tokio::test]
async fn bytes_and_ends_are_those_of_tcp_and_the_client_is_named() {
    let (_dir, path, argument) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let gate = Gate::start(argument, &[]);
    for version in VERSIONS {
        let client = gate.client_of(gate.pki.client(version)).await;
        let from = client.get_ref().0.local_addr().unwrap();
        let mut server = accept(&listener).await;
        let header = read_version_2(&mut server).await;
        assert_eq!(header.proxied_address().unwrap().source, from);
        assert!(header.ssl().is_some());

        carries_both_ways(client, server, MUCH).await;
    }
}

#[tokio::test]
async fn the_header_can_be_left_out() {
    let (_dir, path, argument) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let gate = Gate::start(argument, &["--proxy-protocol", "off"]);
    let mut client = gate.client().await;
    client.write_all(b"alone").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut accept(&listener).await).await.unwrap(), b"alone");
}

#[tokio::test]
async fn a_socket_that_is_not_there_yet_is_waited_for() {
    let (_dir, path, argument) = place();
    let gate = Gate::start(argument, &["--backend-retry", NEVER]);
    let mut client = gate.client().await;
    gate.log_line("waiting for the backend");
    let listener = UnixListener::bind(&path).unwrap();
    let mut server = accept(&listener).await;
    read_version_2(&mut server).await;
    server.write_all(b"here I am").await.unwrap();
    drop(server);
    assert_eq!(rest(&mut client).await.unwrap(), b"here I am");
}

/// Unlike TCP, a Unix socket refuses a connection at once when its queue is full, as in a burst of
/// clients.
#[tokio::test]
async fn a_full_queue_is_waited_out() {
    let (_dir, path, argument) = place();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = UnixListener::from_std(socket.into()).unwrap();
    let _filler = UnixStream::connect(&path).await.unwrap();

    let gate = Gate::start(argument, &["--backend-retry", NEVER]);
    let mut client = gate.client().await;
    gate.log_line("waiting for the backend");
    drop(accept(&listener).await);
    let mut server = accept(&listener).await;
    read_version_2(&mut server).await;
    client.write_all(b"my turn").await.unwrap();
    let mut got = [0; 7];
    soon(server.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"my turn");
}

/// Closing a Unix socket with unread input causes a reset, so the gate discards the input first.
#[tokio::test]
async fn a_client_that_is_gone_is_a_plain_end() {
    let (_dir, path, argument) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let gate = Gate::start(argument, &[]);
    let mut client = gate.client().await;
    let mut server = accept(&listener).await;
    read_version_2(&mut server).await;
    client.write_all(b"the message").await.unwrap();
    client.flush().await.unwrap();
    // The client does not read, so at some point the gate stops reading as well.
    let bytes = noise(3, 64 * 1024);
    while tokio::time::timeout(STOPPED, server.write_all(&bytes)).await.is_ok() {}
    let (tcp, _) = client.into_inner();
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    tokio::task::spawn_blocking(move || gate.log_line("ended")).await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"the message");
}

#[tokio::test]
async fn a_backend_that_refuses_the_rest_is_still_heard() {
    let (_dir, path, argument) = place();
    let listener = UnixListener::bind(&path).unwrap();
    let gate = Gate::start(argument, &[]);
    let (mut from, mut to) = tokio::io::split(gate.client().await);
    let upload = tokio::spawn(async move { while to.write_all(&[7; 16 * 1024]).await.is_ok() {} });
    let mut server = accept(&listener).await;
    read_version_2(&mut server).await;
    server.write_all(b"too large").await.unwrap();
    drop(server);
    // The backend closes its Unix socket with unread input. This causes a reset, so the client's
    // stream has no proper end.
    let mut got = [0; 9];
    soon(from.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"too large");
    drop(from);
    upload.abort();
}

#[tokio::test]
async fn a_missing_backend_is_named_by_its_path() {
    let (_dir, path, argument) = place();
    let gate = Gate::start(argument, &["--backend-retry", "0s"]);
    assert_eq!(rest(&mut gate.client().await).await.unwrap(), b"");
    let line = gate.log_line("WARN");
    assert!(line.contains(&format!("unix:{}", path.display())), "{line}");
    gate.signal(Signal::TERM);
    assert!(gate.ended().await.0.success());
}
