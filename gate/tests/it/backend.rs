//! A backend that is down, that comes back, or that listens on IPv6 only.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Gate, NEVER, accept, backend, echo_from, rest, round_trip, soon};

/// A port that refuses connections. It is bound, so that no other program takes it.
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
        // `Ok` means that the stream ended with a `close_notify`.
        assert_eq!(rest(&mut gate.client().await).await.unwrap(), b"");
    }
    let line = gate.log_line("WARN");
    assert!(line.contains(&address.to_string()) && line.contains("start the server"), "{line}");

    tokio::spawn(echo_from(listening(socket)));
    round_trip(&mut gate.client().await).await;
    // The log has one line when the backend went away and one line when it came back.
    let mut back = gate.log_line("is back");
    assert!(back.contains(&address.to_string()), "{back}");
    gate.signal(Signal::TERM);
    while !back.contains("SIGTERM") {
        back = gate.log_line("");
        assert!(!back.contains("WARN"), "{back}");
    }
}

/// While the backend is down, as during a restart, no client is disconnected.
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
        // The port is reserved on IPv4 too, so that no other program listens there.
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        if let Ok((four, _)) = reserved(four) {
            break (six, address, four);
        }
    };
    let gate = Gate::start(address.port(), &[]);
    tokio::spawn(echo_from(listening(six)));
    round_trip(&mut gate.client().await).await;
}

/// One client sends "hello". The server reads it, sends `answer` and closes the connection. Returns
/// the warnings that were logged until the connection ended.
async fn exchange(gate: &Gate, listener: &TcpListener, answer: &[u8]) -> Vec<String> {
    let mut client = gate.client().await;
    client.write_all(b"hello").await.unwrap();
    let mut server = accept(listener).await;
    let mut bytes = Vec::new();
    // A PROXY header may come before "hello".
    while !bytes.ends_with(b"hello") {
        assert_ne!(soon(server.read_buf(&mut bytes)).await.unwrap(), 0);
    }
    server.write_all(answer).await.unwrap();
    drop(server);
    assert_eq!(rest(&mut client).await.unwrap(), answer);
    drop(client);
    let lines = std::iter::repeat_with(|| gate.log_line(""));
    let until_its_end = lines.take_while(|line| !line.contains("ended=\"by the backend\""));
    until_its_end.filter(|line| line.contains("WARN")).collect()
}

/// A server that closes without an answer expects a PROXY header that the gate does not send, or
/// cannot read the header that the gate sends.
#[tokio::test]
async fn a_server_that_closes_without_an_answer_is_told_of_with_the_likely_cause() {
    for (options, question) in [
        (vec![], "does it expect a PROXY header? If so, give gate --proxy-protocol v2"),
        (vec!["--proxy-protocol", "v1"], "does it expect no PROXY header? If so, leave out"),
    ] {
        let (listener, address) = backend().await;
        let gate = Gate::start(address, &options);
        // Two unanswered connections in a row cause no warning. The answer in between starts the
        // count again.
        for answer in ["", "", "hello", "", ""] {
            let warned = exchange(&gate, &listener, answer.as_bytes()).await;
            assert!(warned.is_empty(), "{warned:?}");
        }
        let warned = exchange(&gate, &listener, b"").await;
        let [line] = &warned[..] else { panic!("{warned:?}") };
        for words in [&address.to_string(), "3 connections in a row", question] {
            assert!(line.contains(words), "{words:?} is not in {line}");
        }
        // The warning is not repeated within a minute.
        assert!(exchange(&gate, &listener, b"").await.is_empty());
    }
}

/// The server is not at fault if a client disconnects before the answer, or sends nothing.
#[tokio::test]
async fn clients_that_leave_or_say_nothing_accuse_nobody() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for says in ["hello", ""] {
        for _ in 0..4 {
            let mut client = gate.client().await;
            client.write_all(says.as_bytes()).await.unwrap();
            let mut server = accept(&listener).await;
            if says.is_empty() {
                drop(server);
                assert_eq!(rest(&mut client).await.unwrap(), b"");
            } else {
                client.shutdown().await.unwrap();
                assert_eq!(rest(&mut server).await.unwrap(), b"hello");
            }
        }
    }
    gate.signal(Signal::TERM);
    let (_, log) = gate.ended().await;
    assert!(!log.iter().any(|line| line.contains("WARN")), "{log:?}");
}
