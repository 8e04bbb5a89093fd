//! Too many connections, of one address and in all, from several addresses of this machine.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Gate, NEVER, VERSIONS, echo, name, rest, round_trip, soon};

/// A connection that comes from `127.0.0.last`.
async fn tcp_from(gate: &Gate, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))).unwrap();
    socket.connect(gate.address).await.unwrap()
}

async fn client_from(gate: &Gate, last: u8) -> TlsStream<TcpStream> {
    let tcp = tcp_from(gate, last).await;
    let config = gate.pki.client(VERSIONS[1]);
    soon(TlsConnector::from(config).connect(name(), tcp)).await.unwrap()
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_leaves_others_alone() {
    let options = ["--max-connections-per-address", "2"];
    let gate = Gate::start(echo().await, &options);
    let mut first = client_from(&gate, 2).await;
    let mut second = client_from(&gate, 2).await;
    round_trip(&mut second).await;
    assert_eq!(rest(&mut tcp_from(&gate, 2).await).await.unwrap(), b"");
    let line = gate.log_line("too many connections");
    assert!(line.contains("DEBUG") && line.contains("127.0.0.2"), "{line}");
    round_trip(&mut client_from(&gate, 3).await).await;
    // The refused one took no place, and one that leaves gives its place back.
    round_trip(&mut first).await;
    let peer = first.get_ref().0.local_addr().unwrap();
    first.shutdown().await.unwrap();
    assert_eq!(rest(&mut first).await.unwrap(), b"");
    gate.log_line(&format!("access: peer={peer} "));
    round_trip(&mut client_from(&gate, 2).await).await;
}

#[tokio::test]
async fn an_address_has_so_many_handshakes() {
    let options = ["--max-handshakes-per-address", "2", "--handshake-timeout", NEVER];
    let gate = Gate::start(echo().await, &options);
    // What has completed its handshake counts no more.
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(client_from(&gate, 2).await);
    }
    for client in &mut clients {
        round_trip(client).await;
    }
    let _silent = [tcp_from(&gate, 2).await, tcp_from(&gate, 2).await];
    assert_eq!(rest(&mut tcp_from(&gate, 2).await).await.unwrap(), b"");
    gate.log_line("too many unfinished handshakes");
    round_trip(&mut client_from(&gate, 3).await).await;
}

#[tokio::test]
async fn the_oldest_of_too_many_handshakes_is_closed_and_not_the_newcomer() {
    let options = ["--max-handshakes", "3", "--handshake-timeout", NEVER];
    let gate = Gate::start(echo().await, &options);
    let mut silent = Vec::new();
    for last in 2..5 {
        silent.push(tcp_from(&gate, last).await);
    }
    round_trip(&mut client_from(&gate, 9).await).await;
    assert_eq!(rest(&mut silent.remove(0)).await.unwrap(), b"");
    gate.log_line("oldest of too many handshakes");
    // The newcomer's is over, so there is room for one again.
    silent.push(tcp_from(&gate, 5).await);
    drop(tcp_from(&gate, 6).await);
    assert_eq!(rest(&mut silent.remove(0)).await.unwrap(), b"");
    for other in &silent {
        assert_eq!(other.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
