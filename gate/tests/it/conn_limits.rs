//! Limits on the connections of one address and of all addresses, tested from several addresses of
//! this machine.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::Signal;
use shared::descriptors::raise_limit;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::admin::metrics;
use crate::harness::{
    Gate, NEVER, Pki, VERSIONS, echo, name, program, program_by, rest, round_trip, soon,
    write_secret,
};

/// Opens a connection that comes from `127.0.0.last`.
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
    // The refused connection is not counted, and a connection that ends makes room for another one.
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
    // A completed handshake is not counted any more.
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
async fn the_oldest_of_too_many_handshakes_is_closed_and_not_the_newest() {
    let options = ["--max-handshakes", "3", "--handshake-timeout", NEVER];
    let gate = Gate::start(echo().await, &options);
    let mut silent = Vec::new();
    for last in 2..5 {
        silent.push(tcp_from(&gate, last).await);
    }
    round_trip(&mut client_from(&gate, 9).await).await;
    assert_eq!(rest(&mut silent.remove(0)).await.unwrap(), b"");
    gate.log_line("oldest of too many unfinished handshakes");
    // The newest handshake is complete, so there is room for one more.
    silent.push(tcp_from(&gate, 5).await);
    drop(tcp_from(&gate, 6).await);
    assert_eq!(rest(&mut silent.remove(0)).await.unwrap(), b"");
    for other in &silent {
        assert_eq!(other.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// Opens `count` silent connections from `127.0.0.last`.
async fn silent_from(gate: &Gate, last: u8, count: usize) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(tcp_from(gate, last).await);
    }
    silent
}

fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn thousands_of_descriptors() {
    assert!(raise_limit() >= 10_000, "this test needs 10,000 open files: raise `ulimit -Hn`");
}

/// The defaults that the documentation promises, tested on a gate without limits on its command
/// line.
#[tokio::test]
async fn by_default_an_address_has_256_handshakes_and_all_together_4096() {
    thousands_of_descriptors();
    let gate = Gate::start(echo().await, &["--handshake-timeout", NEVER]);
    let mut silent = silent_from(&gate, 2, 256).await;
    assert_eq!(rest(&mut tcp_from(&gate, 2).await).await.unwrap(), b"");
    gate.log_line("too many unfinished handshakes");
    for last in 3..18 {
        silent.append(&mut silent_from(&gate, last, 256).await);
    }
    assert_eq!(silent.len(), 4096);
    // The next connection is accepted, and the oldest handshake is closed.
    round_trip(&mut client_from(&gate, 18).await).await;
    assert_eq!(rest(&mut silent.remove(0)).await.unwrap(), b"");
    assert!(silent.iter().all(is_open));
}

#[tokio::test]
async fn by_default_an_address_has_4096_connections() {
    thousands_of_descriptors();
    // The other limits must not interfere.
    let options = [
        "--handshake-timeout",
        NEVER,
        "--max-handshakes-per-address=5000",
        "--max-handshakes=5000",
    ];
    let gate = Gate::start(echo().await, &options);
    let silent = silent_from(&gate, 2, 4096).await;
    assert_eq!(rest(&mut tcp_from(&gate, 2).await).await.unwrap(), b"");
    gate.log_line("too many connections from this address");
    assert!(silent.iter().all(is_open));
    round_trip(&mut client_from(&gate, 3).await).await;
}

#[test]
fn the_help_tells_the_defaults() {
    let help = String::from_utf8(program().arg("--help").output().unwrap().stdout).unwrap();
    for (option, default) in [
        ("--max-connections-per-address", "4096"),
        ("--max-handshakes-per-address", "256"),
        ("--max-handshakes", "4096"),
    ] {
        let (_, about) = help.split_once(&format!("{option} <COUNT>")).unwrap();
        let about = about.split("\n      --").next().unwrap();
        assert!(about.contains(&format!("[default: {default}]")), "{option}: {about}");
    }
}

/// Each connection takes two file descriptors, each thread takes 4, and 128 are reserved. The gate
/// raises its limit to the hard limit of 200 descriptors, which allows (200 - 128 - 2 × 4) / 2
/// connections.
#[tokio::test]
async fn all_that_the_descriptors_allow_are_served_at_a_time_and_no_more() {
    const POSSIBLE: usize = 32;

    let dir = tempfile::TempDir::new().unwrap();
    let pki = Pki::new();
    let pem = dir.path().join("cert.pem");
    write_secret(&pem, pki.together());
    let limited = r#"ulimit -Sn 100 && ulimit -Hn 200 && exec "$@""#;
    let mut command = program_by(&["sh", "-c", limited, "sh"]);
    command.args(["127.0.0.1:0", &echo().await.to_string()]).arg(pem);
    command.args(["--admin", "127.0.0.1:0", "--threads", "2", "--log", "debug"]);
    command.args(["--handshake-timeout", NEVER]);
    let gate = Gate::launch(command, pki);
    let admin = gate.admin();
    let line = gate.log_line("forwarding TLS");
    assert!(line.contains(&format!("max_connections={POSSIBLE}")), "{line}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.pid())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["200", "200", "files"]);

    // Opens as many clients as possible, each with a connection to the backend.
    let mut clients = Vec::new();
    for _ in 0..POSSIBLE {
        let mut client = gate.client().await;
        round_trip(&mut client).await;
        clients.push(client);
    }
    let waiting = gate.tcp().await;
    for client in &mut clients {
        round_trip(client).await;
        assert_eq!(metrics(admin).await["gate_accepted_total"], POSSIBLE as f64);
    }
    // The waiting client is accepted once another connection ends.
    clients.pop();
    soon(async { while metrics(admin).await["gate_accepted_total"] == POSSIBLE as f64 {} }).await;
    drop(waiting);
    gate.signal(Signal::TERM);
    drop(clients);
    let (_, log) = gate.ended().await;
    assert!(!log.iter().any(|line| line.contains("cannot accept")), "{log:?}");
}
