//! The relay forwards all bytes in order, and holds only a limited number of them.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use futures_util::future::join_all;
use rustls::{ClientConnection, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{
    Gate, VERSIONS, accept, backend, carries_both_ways, echo, name, noise, rest, round_trip, soon,
};

const MEBIBYTE: usize = 1024 * 1024;

/// The buffer size of a socket that must fill up soon.
const SMALL: u32 = 64 * 1024;

#[tokio::test]
async fn a_mebibyte_each_way_at_once_arrives_unchanged() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for version in VERSIONS {
        let client = gate.client_of(gate.pki.client(version)).await;
        carries_both_ways(client, accept(&listener).await, MEBIBYTE).await;
    }
}

/// A client often sends its first request in one packet with the end of its handshake.
#[tokio::test]
async fn what_comes_along_with_the_handshake_is_forwarded() {
    let gate = Gate::start(echo().await, &[]);
    for version in VERSIONS {
        let (config, address) = (gate.pki.client(version), gate.address);
        let echoed = tokio::task::spawn_blocking(move || {
            let mut tcp = std::net::TcpStream::connect(address).unwrap();
            let mut tls = ClientConnection::new(config, name()).unwrap();
            // The text is written before the handshake, so it is sent together with the last
            // handshake message.
            tls.writer().write_all(b"at once").unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).unwrap();
            answer
        });
        assert_eq!(&soon(echoed).await.unwrap(), b"at once", "{version:?}");
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    let gate = Gate::start(echo().await, &[]);
    for version in VERSIONS {
        let config = gate.pki.client(version);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut client = gate.client_of(config.clone()).await;
            // The round trip also reads the session tickets.
            round_trip(&mut client).await;
            kinds.push(client.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed], "{version:?}");
    }
}

#[tokio::test]
async fn keys_may_change_on_the_way() {
    let gate = Gate::start(echo().await, &[]);
    let mut client = gate.client().await;
    for _ in 0..5 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        round_trip(&mut client).await;
    }
}

#[tokio::test]
async fn many_tiny_writes_arrive_in_order() {
    let gate = Gate::start(echo().await, &[]);
    let (mut from, mut to) = tokio::io::split(gate.client().await);
    let bytes = noise(3, 5_000);
    let send = async {
        for byte in &bytes {
            to.write_all(&[*byte]).await.unwrap();
            to.flush().await.unwrap();
        }
        to.shutdown().await.unwrap();
    };
    let ((), echoed) = soon(async { tokio::join!(send, rest(&mut from)) }).await;
    assert_eq!(echoed.unwrap(), bytes);
}

/// The most bytes that can be in flight in one direction. Each of the two connections has a send
/// buffer and a receive buffer, which grow up to the kernel's limit. One MiB more is allowed for
/// the gate.
fn bound() -> usize {
    let largest = |file: &str, usual: usize| {
        let limits = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{file}"));
        limits.ok().and_then(|l| l.split_whitespace().last()?.parse().ok()).unwrap_or(usual)
    };
    let buffers = largest("tcp_rmem", 6 * MEBIBYTE) + largest("tcp_wmem", 4 * MEBIBYTE);
    2 * buffers + MEBIBYTE
}

/// A writer without progress for this long counts as blocked. If the machine is slow, the writer
/// may have written less, and the test then passes without having tested the limit.
const STOPPED: Duration = Duration::from_millis(500);

async fn write_until_stopped(to: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match tokio::time::timeout(STOPPED, to.write(&bytes[written..])).await {
            Ok(count) => written += count.unwrap(),
            Err(_stopped) => break,
        }
    }
    written
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_backend() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (mut client, mut server) = gate.connect(&listener).await;
    let bytes = noise(4, bound() + 16 * MEBIBYTE);
    let written = write_until_stopped(&mut server, &bytes).await;
    assert!(written < bound(), "{written} bytes are in flight");

    let remaining = async {
        server.write_all(&bytes[written..]).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let ((), read) = soon(async { tokio::join!(remaining, rest(&mut client)) }).await;
    assert!(read.unwrap() == bytes);
}

#[tokio::test]
async fn a_backend_that_does_not_read_stops_the_client() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (mut client, mut server) = gate.connect(&listener).await;
    let bytes = noise(5, bound() + 16 * MEBIBYTE);
    let written = write_until_stopped(&mut client, &bytes).await;
    assert!(written < bound(), "{written} bytes are in flight");

    // The other direction is still open.
    server.write_all(b"still here").await.unwrap();
    let mut answer = [0; 10];
    soon(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"still here");

    let remaining = async {
        client.write_all(&bytes[written..]).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let ((), read) = soon(async { tokio::join!(remaining, rest(&mut server)) }).await;
    assert!(read.unwrap() == bytes);
}

/// A client and its connection at the backend. Neither of them reads, and both have written until
/// they were blocked. Their own sockets have small buffers, so that the gate's buffers fill soon.
async fn stalled(
    gate: &Gate,
    listener: &TcpListener,
    bytes: &[u8],
) -> (TlsStream<TcpStream>, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SMALL).unwrap();
    let tcp = socket.connect(gate.address).await.unwrap();
    let connector = TlsConnector::from(gate.pki.client(VERSIONS[0]));
    let mut client = soon(connector.connect(name(), tcp)).await.unwrap();
    let mut server = accept(listener).await;
    let (up, down) = tokio::join!(
        write_until_stopped(&mut client, bytes),
        write_until_stopped(&mut server, bytes),
    );
    assert!(up < bytes.len() && down < bytes.len(), "{up} and {down} bytes are in flight");
    (client, server)
}

/// docs/limits.md promises this: the kernel holds megabytes of a stalled connection, and the gate
/// holds no more than one read in each direction.
#[tokio::test]
async fn of_stalled_connections_the_gate_holds_next_to_nothing() {
    const WARM: usize = 2;
    const CONNECTIONS: usize = 20;
    // For each connection: 82 KiB for the backend (`CHUNK` and one `RECORD`), 64 KiB and TLS
    // overhead for the client, and the connection itself.
    const HELD_KIB: usize = 200;

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SMALL).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(64).unwrap();
    let gate = Gate::start(listener.local_addr().unwrap(), &[]);
    let bytes = noise(12, bound());
    let several = |count| join_all((0..count).map(|_| stalled(&gate, &listener, &bytes)));
    let _warm = several(WARM).await;
    let before = gate.resident();
    let _stuck = several(CONNECTIONS).await;
    let held = gate.resident().saturating_sub(before);
    assert!(held < CONNECTIONS * HELD_KIB, "{held} KiB for {CONNECTIONS} connections");
}

/// The client is gone, so no one reads the bytes that the backend writes for it. The backend must
/// not be blocked by them, because it would then never read the bytes that the client has sent.
#[tokio::test]
async fn a_client_that_is_gone_stops_nobody() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (mut client, mut server) = gate.connect(&listener).await;
    let bytes = noise(7, bound() + 16 * MEBIBYTE);
    // The bytes sent in each direction are more than the backend's socket holds.
    let sent = write_until_stopped(&mut client, &bytes).await;
    write_until_stopped(&mut server, &bytes).await;
    let (tcp, _) = client.into_inner();
    tcp.set_zero_linger().unwrap();
    drop(tcp);

    // The write may fail or succeed, depending on when the gate gave up, but it must end.
    let _ = soon(server.write_all(&bytes)).await;
    let read = rest(&mut server).await.unwrap_or_default();
    assert!(read.len() <= sent);
}

/// The burst has large records, and more bytes than the client takes at once. Both need memory for
/// a moment, and an idle connection must not keep that memory.
#[tokio::test]
async fn after_a_burst_a_connection_keeps_no_memory_of_it() {
    const CONNECTIONS: usize = 200;
    // The most KiB that a connection may keep. One record and the bytes that rustls read ahead
    // would be 20 KiB.
    const KEPT_KIB: usize = 6;

    let gate = Gate::start(echo().await, &[]);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = gate.client().await;
        round_trip(&mut client).await;
        clients.push(client);
    }
    let bytes = noise(9, 128 * 1024);
    // The first connections fill the memory that all connections share.
    let mut before = 0;
    for (index, client) in clients.iter_mut().enumerate() {
        if index == CONNECTIONS / 10 {
            before = gate.resident();
        }
        let (mut from, mut to) = tokio::io::split(client);
        let mut echoed = vec![0; bytes.len()];
        let send = async {
            to.write_all(&bytes).await.unwrap();
            to.flush().await.unwrap();
        };
        soon(async { tokio::join!(send, from.read_exact(&mut echoed)) }).await.1.unwrap();
        assert!(echoed == bytes);
    }
    let kept = gate.resident().saturating_sub(before);
    assert!(kept < CONNECTIONS * KEPT_KIB, "{kept} KiB more than before");
}

/// A connection that always has work must not delay the other connections of its thread.
#[tokio::test]
async fn a_busy_connection_leaves_room_for_others() {
    let gate = Gate::start(echo().await, &[]);
    let (mut from, mut to) = tokio::io::split(gate.client().await);
    let chunk = noise(6, MEBIBYTE);
    let busy = tokio::spawn(async move {
        let mut sink = vec![0; MEBIBYTE];
        loop {
            tokio::select! {
                written = to.write_all(&chunk) => written.unwrap(),
                read = from.read(&mut sink) => assert!(read.unwrap() > 0),
            }
        }
    });
    for _ in 0..20 {
        round_trip(&mut gate.client().await).await;
    }
    assert!(!busy.is_finished());
    busy.abort();
}
