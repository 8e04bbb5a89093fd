//! The backend: absent, back again, and where to look for it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::harness::{Gate, NEVER, echo_from, rest, round_trip};

/// A port that is reserved, so that nobody else takes it, but refuses connections.
fn reserved(address: SocketAddr) -> std::io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?.as_socket().unwrap();
    Ok((socket, address))
}

fn listening(socket: Socket) -> TcpListener {
    socket.listen(16).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

#[tokio::test]
async fn without_a_backend_clients_are_closed_in_order_until_it_is_back() {
    let (socket, address) = reserved(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let gate = Gate::start(address, &["--backend-retry", "0s"]);
    for _ in 0..2 {
        // Ok: with a close_notify.
        assert_eq!(rest(&mut gate.client().await).await.unwrap(), b"");
    }
    let line = gate.log_line("WARN");
    assert!(line.contains(&address.to_string()) && line.contains("start the server"), "{line}");

    tokio::spawn(echo_from(listening(socket)));
    round_trip(&mut gate.client().await).await;
    // Said once when it went and once when it came.
    let mut back = gate.log_line("is back");
    assert!(back.contains(&address.to_string()), "{back}");
    gate.signal(rustix::process::Signal::TERM);
    while !back.contains("SIGTERM") {
        back = gate.log_line("");
        assert!(!back.contains("WARN"), "{back}");
    }
}

/// As during a restart: nobody is turned away.
#[tokio::test]
async fn a_backend_that_is_not_there_yet_is_waited_for() {
    let (socket, address) = reserved(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let gate = Gate::start(address, &["--backend-retry", NEVER]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(gate.client().await);
        gate.log_line("waiting for the backend");
    }
    tokio::spawn(echo_from(listening(socket)));
    for client in &mut clients {
        round_trip(client).await;
    }
}

#[tokio::test]
async fn the_wait_for_a_backend_ends() {
    let (_socket, address) = reserved(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let gate = Gate::start(address, &["--backend-retry", "50ms"]);
    let mut client = gate.client().await;
    gate.log_line("waiting for the backend");
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    let line = gate.log_line("WARN");
    assert!(line.contains(&address.to_string()), "{line}");
}

#[tokio::test]
async fn a_port_alone_is_looked_for_on_ipv6_too() {
    let (six, address, _four) = loop {
        let (six, address) = reserved(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).unwrap();
        // Also on IPv4, or somebody else might listen there.
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        if let Ok((four, _)) = reserved(four) {
            break (six, address, four);
        }
    };
    let gate = Gate::start(address.port(), &[]);
    tokio::spawn(echo_from(listening(six)));
    round_trip(&mut gate.client().await).await;
}
