//! How streams end: each direction ends separately, and no bytes are cut off.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, Error as TlsError};
use shared::linger::LingerSocket as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Gate, VERSIONS, accept, backend, noise, rest, soon};

/// A writer without progress for this long counts as blocked.
const STOPPED: Duration = Duration::from_millis(500);

/// More bytes than the gate reads at once, but fewer than the buffers of the sockets hold.
const SOME: usize = 300 * 1024;

#[tokio::test]
async fn after_the_clients_end_it_still_gets_the_whole_answer() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for version in VERSIONS {
        let (mut client, mut server) = gate.connect_by(version, &listener).await;
        client.write_all(b"a question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"a question");

        let answer = noise(1, SOME);
        let send = async {
            server.write_all(&answer).await.unwrap();
            drop(server);
        };
        // Only a `close_notify` makes the result `Ok`.
        let ((), got) = soon(async { tokio::join!(send, rest(&mut client)) }).await;
        assert!(got.unwrap() == answer, "{version:?}");
    }
}

#[tokio::test]
async fn after_the_backends_end_it_still_gets_what_the_client_sends() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for version in VERSIONS {
        let (mut client, mut server) = gate.connect_by(version, &listener).await;
        server.write_all(b"all I have").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), b"all I have");

        let more = noise(2, SOME);
        let send = async {
            client.write_all(&more).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ((), got) = soon(async { tokio::join!(send, rest(&mut server)) }).await;
        assert!(got.unwrap() == more, "{version:?}");
    }
}

#[tokio::test]
async fn a_client_that_stays_silent_after_the_backends_end_is_closed() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &["--half-closed-timeout", "300ms"]);
    for version in VERSIONS {
        let (mut client, mut server) = gate.connect_by(version, &listener).await;
        server.write_all(b"all I have").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), b"all I have");
        // The client neither sends nor closes, but the backend still sees an end.
        assert_eq!(soon(rest(&mut server)).await.unwrap(), b"");
        drop(client);
        gate.log_line("ended=\"client silent\"");
    }
}

/// The client does not count as silent, because the backend has not read its bytes yet.
#[tokio::test]
async fn an_upload_that_the_backend_has_not_read_yet_is_not_cut() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &["--half-closed-timeout", "300ms"]);
    let (mut client, mut server) = gate.connect(&listener).await;
    server.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    let bytes = noise(9, 64 * 1024);
    let mut sent = 0;
    while let Ok(count) = tokio::time::timeout(STOPPED, client.write(&bytes)).await {
        sent += count.unwrap();
    }
    let send = async { client.shutdown().await.unwrap() };
    let ((), got) = soon(async { tokio::join!(send, rest(&mut server)) }).await;
    assert_eq!(got.unwrap().len(), sent);
}

/// Many programs close a connection without a `close_notify`.
#[tokio::test]
async fn an_end_without_close_notify_is_an_end() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for version in VERSIONS {
        let (mut client, mut server) = gate.connect_by(version, &listener).await;
        let bytes = noise(3, SOME);
        let send = async {
            client.write_all(&bytes).await.unwrap();
            client.flush().await.unwrap();
            let (mut tcp, _) = client.into_inner();
            tcp.shutdown().await.unwrap();
            tcp
        };
        let (_tcp, got) = soon(async { tokio::join!(send, rest(&mut server)) }).await;
        assert!(got.unwrap() == bytes, "{version:?}");
    }
}

/// The message of a client that disconnects right after sending it must not be lost, even if an
/// answer follows.
#[tokio::test]
async fn a_client_that_leaves_at_once_is_heard_to_the_end() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for round in 0..20 {
        let (mut client, mut server) = gate.connect(&listener).await;
        client.write_all(b"the message").await.unwrap();
        client.shutdown().await.unwrap();
        drop(client);
        // If the answer is written before the message was read, the client is already gone.
        server.write_all(b"an answer").await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"the message", "round {round}");
    }
}

/// A killed backend did not finish its answer, so the gate must not send a proper end to the
/// client.
#[tokio::test]
async fn a_reset_by_the_backend_is_no_complete_answer() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (mut client, mut server) = gate.connect(&listener).await;
    server.write_all(b"the first half").await.unwrap();
    let mut half = [0; 14];
    soon(client.read_exact(&mut half)).await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    let error = rest(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// The kernel reports a reset only once, here to a write. The next read then looks like a proper
/// end.
#[tokio::test]
async fn a_reset_by_the_backend_during_an_upload_is_no_complete_answer() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (mut from, mut to) = tokio::io::split(gate.client().await);
    let mut server = accept(&listener).await;
    server.write_all(b"the first half").await.unwrap();
    let mut half = [0; 14];
    soon(from.read_exact(&mut half)).await.unwrap();
    // The backend reads nothing, so the gate waits until it can write.
    let bytes = noise(8, 64 * 1024);
    while tokio::time::timeout(STOPPED, to.write_all(&bytes)).await.is_ok() {}
    server.set_zero_linger().unwrap();
    drop(server);
    let error = rest(&mut from).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_reset_by_the_client_ends_the_backends_connection() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (mut client, mut server) = gate.connect(&listener).await;
    client.write_all(b"the first half").await.unwrap();
    let mut half = [0; 14];
    soon(server.read_exact(&mut half)).await.unwrap();
    let (tcp, _) = client.into_inner();
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    assert_eq!(rest(&mut server).await.unwrap(), b"");
}

/// The gate delivers the bytes that it has received, even if the backend writes a lot before it
/// reads.
#[tokio::test]
async fn a_reset_by_the_client_cuts_nothing_off_that_was_on_its_way() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (mut client, mut server) = gate.connect(&listener).await;
    // These bytes are more than the backend's receive buffer holds, so some wait in the gate's send
    // buffer.
    let bytes = noise(10, 2 * SOME);
    client.write_all(&bytes).await.unwrap();
    client.flush().await.unwrap();
    let (tcp, _) = client.into_inner();
    soon(async {
        while tcp.unsent() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    soon(server.write_all(&noise(11, 20 * SOME))).await.unwrap();
    assert!(rest(&mut server).await.unwrap() == bytes);
}

/// The backend knows that the client has ended its stream, and is silent while it works. When the
/// client disconnects, the gate notices and closes the connection to the backend.
#[tokio::test]
async fn a_client_that_is_gone_after_its_end_leaves_nothing_behind() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for closes_its_side in [false, true] {
        let (mut client, mut server) = gate.connect(&listener).await;
        let peer = client.get_ref().0.local_addr().unwrap();
        if closes_its_side {
            client.shutdown().await.unwrap();
        } else {
            // The client sends only a `close_notify`, and then bytes that the gate ignores.
            client.get_mut().1.send_close_notify();
            client.flush().await.unwrap();
            client.get_mut().0.write_all(&[7; 1_000]).await.unwrap();
        }
        assert_eq!(rest(&mut server).await.unwrap(), b"");
        let (tcp, _) = client.into_inner();
        tcp.set_zero_linger().unwrap();
        drop(tcp);
        let line = gate.log_line(&format!("access: peer={peer} "));
        assert!(line.contains("ended=\"by the client\""), "{line}");
    }
}

#[tokio::test]
async fn a_backend_that_refuses_the_rest_of_an_upload_is_still_heard() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    let (client, mut server) = gate.connect(&listener).await;
    let (mut from, mut to) = tokio::io::split(client);
    // The upload never ends by itself. It must fail once the gate has closed the connection.
    let upload = tokio::spawn(async move { while to.write_all(&[7; 16 * 1024]).await.is_ok() {} });
    let mut some = [0; 1024];
    soon(server.read_exact(&mut some)).await.unwrap();
    server.write_all(b"too large").await.unwrap();
    server.shutdown().await.unwrap();
    let got = rest(&mut from).await.unwrap();
    assert_eq!(got, b"too large");
    drop(server);
    soon(upload).await.unwrap();
}

/// A record that was tampered with ends the connection, and the client gets an alert.
#[tokio::test]
async fn a_damaged_record_is_answered_with_an_alert() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &[]);
    for version in VERSIONS {
        let (mut client, mut server) = gate.connect_by(version, &listener).await;
        client.write_all(b"before").await.unwrap();
        client.flush().await.unwrap();
        let (mut tcp, mut tls) = client.into_inner();
        // The input is an application data record of 32 bytes, followed by more bytes than one read
        // takes.
        let mut record = vec![0x17, 3, 3, 0, 32];
        record.extend([0; 32 + 200_000]);
        tcp.write_all(&record).await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"before", "{version:?}");

        let answer = rest(&mut tcp).await.unwrap();
        let mut answer = answer.as_slice();
        let mut outcome = Ok(());
        while !answer.is_empty() && outcome.is_ok() {
            tls.read_tls(&mut answer).unwrap();
            outcome = tls.process_new_packets().map(drop);
        }
        let alert = TlsError::AlertReceived(AlertDescription::BadRecordMac);
        assert_eq!(outcome, Err(alert), "{version:?}");
    }
}
