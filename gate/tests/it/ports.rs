//! The gate opens more connections to a backend on this machine than one source address has ports.
//!
//! The test runs in a network namespace of its own, which has only 100 ports.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use testkit::namespace::Namespace;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Gate, backend, name, rest, round_trip, soon};
use rustls::version::TLS13;

/// An environment variable that is set for the process inside the namespace.
const INSIDE: &str = "GATE_TEST_FEW_PORTS";

/// With `tcp_tw_reuse` set to 0, the ports of closed connections stay in use for a minute. So only
/// more source addresses allow more connections.
const PREPARE: &str = "ip link set lo up \
     && echo 40000 40099 >/proc/sys/net/ipv4/ip_local_port_range \
     && echo 0 >/proc/sys/net/ipv4/tcp_tw_reuse";

const AT_ONCE: u16 = 300;
const IN_A_ROW: u16 = 1_000;

/// The clients' own ports lie outside the range of 100 ports, so only the gate uses that range.
const FIRST_CLIENT_PORT: u16 = 10_000;

#[test]
fn the_number_of_ports_is_no_ceiling() {
    if std::env::var_os(INSIDE).is_some() {
        tokio::runtime::Runtime::new().unwrap().block_on(many_connections());
        return;
    }
    let namespace = Namespace {
        kind: "--net",
        prepare: PREPARE,
        inside: (INSIDE, "1".as_ref()),
        needs: "a network namespace of its own (root or unprivileged user namespaces, and ip of \
                Debian's iproute2)",
    };
    namespace.run_again("ports::the_number_of_ports_is_no_ceiling");
}

async fn client(gate: &Gate, number: u16) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 1, 0, 1), FIRST_CLIENT_PORT + number));
    socket.bind(from).unwrap();
    let tcp = socket.connect(gate.address).await.unwrap();
    let connector = TlsConnector::from(gate.pki.client(&TLS13));
    soon(connector.connect(name(), tcp)).await.unwrap()
}

async fn many_connections() {
    let (listener, address) = backend().await;
    let (seen, mut sources) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            seen.send(peer.ip()).await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let gate = Gate::start(address, &["--backend-retry", "0s"]);

    let mut open = Vec::new();
    let mut used = BTreeSet::new();
    for number in 0..AT_ONCE {
        open.push(client(&gate, number).await);
        used.insert(soon(sources.recv()).await.unwrap());
        if number == 0 {
            assert!(used.contains(&Ipv4Addr::LOCALHOST.into()), "{used:?}");
        }
    }
    for client in &mut open {
        round_trip(client).await;
    }
    assert!(used.len() > usize::from(AT_ONCE / 100), "{used:?}");
    drop(open);

    for number in 0..IN_A_ROW {
        let mut client = client(&gate, AT_ONCE + number).await;
        soon(sources.recv()).await.unwrap();
        round_trip(&mut client).await;
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), b"");
    }
}
