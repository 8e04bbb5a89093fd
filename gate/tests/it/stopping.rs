//! SIGTERM and SIGINT.

use std::io;

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::harness::{Gate, NEVER, echo, rest, round_trip, soon};

/// The listener is closed a moment after the signal.
async fn refuses(gate: &Gate) {
    soon(async {
        loop {
            match TcpStream::connect(gate.address).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                // In the queue of a listener that is about to be closed.
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn without_connections_it_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let gate = Gate::start(echo().await, &["--drain", NEVER]);
        gate.signal(signal);
        let (status, log) = gate.ended().await;
        assert_eq!(status.code(), Some(0));
        assert!(log.last().unwrap().contains("ended: no connection was left"), "{log:?}");
    }
}

#[tokio::test]
async fn live_connections_go_on_and_may_end_by_themselves() {
    let gate = Gate::start(echo().await, &["--drain", NEVER]);
    let mut client = gate.client().await;
    round_trip(&mut client).await;
    gate.signal(Signal::TERM);
    refuses(&gate).await;
    round_trip(&mut client).await;
    drop(client);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(log.last().unwrap().contains("no connection was left"), "{log:?}");
}

#[tokio::test]
async fn connections_that_stay_are_closed_in_order_within_the_drain_time() {
    for drain in ["0s", "300ms"] {
        let gate = Gate::start(echo().await, &["--drain", drain]);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = gate.client().await;
            round_trip(&mut client).await;
            clients.push(client);
        }
        gate.signal(Signal::TERM);
        for client in &mut clients {
            // Ok: with a close_notify.
            assert_eq!(rest(client).await.unwrap(), b"", "{drain}");
        }
        drop(clients);
        let (status, log) = gate.ended().await;
        assert_eq!(status.code(), Some(0));
        assert!(log.last().unwrap().contains("no connection was left"), "{drain}: {log:?}");
    }
}

/// Strangers hold up no restart.
#[tokio::test]
async fn unfinished_handshakes_are_given_up() {
    let gate = Gate::start(echo().await, &["--drain", "300ms", "--handshake-timeout", NEVER]);
    let mut silent = gate.tcp().await;
    round_trip(&mut gate.client().await).await;
    gate.signal(Signal::TERM);
    assert_eq!(rest(&mut silent).await.unwrap(), b"");
    let (status, _) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let gate = Gate::start(echo().await, &["--drain", NEVER]);
    let mut client = gate.client().await;
    round_trip(&mut client).await;
    gate.signal(Signal::TERM);
    gate.log_line("SIGTERM: accepting no more");
    gate.signal(Signal::INT);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(log.last().unwrap().contains("SIGINT again: ended at once"), "{log:?}");
}

/// The thread that accepts keeps the first connections and hands on others: all of them are served,
/// and closed in the end.
#[tokio::test]
async fn the_connections_of_every_thread_are_served_and_closed() {
    let gate = Gate::start(echo().await, &["--threads", "3", "--drain", "500ms"]);
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(gate.client().await);
    }
    for client in &mut clients {
        round_trip(client).await;
    }
    gate.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(rest(client).await.unwrap(), b"");
    }
    drop(clients);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(log.last().unwrap().contains("no connection was left"), "{log:?}");
}
