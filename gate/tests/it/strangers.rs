//! Clients that send bytes other than TLS, or no bytes.

use rustix::process::Signal;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::crypto::cipher::OutboundPlainMessage;
use rustls::version::TLS13;
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::admin::metrics;
use crate::harness::{Gate, NEVER, echo, rest, round_trip, soon};

/// The first bytes of a TLS record. The client never sends the rest.
const HALF: [u8; 5] = [0x16, 3, 1, 2, 0];

#[tokio::test]
async fn silent_clients_keep_nobody_waiting() {
    let gate = Gate::start(echo().await, &["--handshake-timeout", NEVER]);
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(gate.tcp().await);
        let mut half = gate.tcp().await;
        half.write_all(&HALF).await.unwrap();
        silent.push(half);
    }
    round_trip(&mut gate.client().await).await;
}

#[tokio::test]
async fn silent_clients_are_dropped_at_the_deadline() {
    let gate = Gate::start(echo().await, &["--handshake-timeout", "200ms"]);
    let mut silent = gate.tcp().await;
    let mut half = gate.tcp().await;
    half.write_all(&HALF).await.unwrap();
    for stream in [&mut silent, &mut half] {
        // The stream ends, or is reset because the gate did not read all of its bytes.
        let end = rest(stream).await;
        assert!(end.is_err() || end.unwrap().is_empty());
    }
    gate.log_line("the handshake took longer than 200ms");
}

/// The whole page arrives, although the gate reads only a little of the request.
#[tokio::test]
async fn plain_http_is_told_where_to_go() {
    let gate = Gate::start(echo().await, &[]);
    let mut client = gate.tcp().await;
    let head = "POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    client.write_all(&[head.as_bytes(), &[b'x'; 100_000]].concat()).await.unwrap();
    client.shutdown().await.unwrap();
    let answer = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    let right = format!("https://localhost:{}/", gate.address.port());
    assert!(body.contains(&format!("<a href=\"{right}\">{right}</a>")), "{body}");
}

/// A ClientHello with the headers of record and handshake: TLS 1.0, one old cipher suite, no
/// extensions.
fn hello_of_tls_1_0() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    hello
}

#[tokio::test]
async fn too_old_clients_are_told_so() {
    let gate = Gate::start(echo().await, &[]);
    let mut client = gate.tcp().await;
    let more = [0xff; 60_000];
    client.write_all(&[hello_of_tls_1_0().as_slice(), &more].concat()).await.unwrap();
    let answer = rest(&mut client).await.unwrap();
    // The answer is a fatal alert (RFC 8446, 6). It arrives although the gate did not read the rest
    // of the input.
    assert_eq!((answer.len(), &answer[..6]), (7, &[0x15, 3, 3, 0, 2, 2][..]));
    gate.log_line("the handshake failed");
}

/// The connections of port scanners and outdated clients are closed and counted, with one debug
/// line each.
#[tokio::test]
async fn strangers_are_counted_and_told_of_in_one_line() {
    let gate = Gate::start(echo().await, &["--admin", "127.0.0.1:0"]);
    let admin = gate.admin();
    let mut told = Vec::new();
    // One scanner only connects, as `nc -z` does. The other one then resets the connection, as nmap
    // does.
    for breaks_off in [false, true] {
        let scanner = gate.tcp().await;
        told.push((scanner.local_addr().unwrap(), "left before the handshake"));
        if breaks_off {
            scanner.set_zero_linger().unwrap();
        }
    }
    for (hello, what) in [
        (b"\r\n\r\n".to_vec(), "does not speak TLS"),
        (b"SSH-2.0-scanner\r\n".to_vec(), "does not speak TLS"),
        (hello_of_tls_1_0(), "the handshake failed"),
    ] {
        let mut stranger = gate.tcp().await;
        told.push((stranger.local_addr().unwrap(), what));
        stranger.write_all(&hello).await.unwrap();
        // The client reads until the gate has closed the connection.
        rest(&mut stranger).await.unwrap();
    }
    let counted = [("left", 2.0), ("not_tls", 2.0), ("failed", 1.0)];
    let counted = counted.map(|(outcome, count)| {
        let labels = format!("outcome=\"{outcome}\",version=\"\",group=\"\"");
        (format!("gate_handshakes_total{{{labels}}}"), count)
    });
    let ended = async {
        loop {
            let now = metrics(admin).await;
            let all: f64 = counted.iter().filter_map(|(name, _)| now.get(name)).sum();
            if all >= told.len() as f64 && now["gate_connections"] == 0.0 {
                return now;
            }
        }
    };
    let now = soon(ended).await;
    for (name, count) in &counted {
        assert_eq!(now.get(name), Some(count), "{name}");
    }
    assert_eq!(now["gate_accepted_total"], told.len() as f64);

    gate.signal(Signal::TERM);
    let (_, log) = gate.ended().await;
    for (peer, what) in &told {
        let lines: Vec<_> = log.iter().filter(|line| line.contains(&peer.to_string())).collect();
        assert!(
            matches!(lines[..], [line] if line.contains("DEBUG") && line.contains(what)),
            "{log:?}"
        );
    }
    // Every line that is not INFO was matched above by the address of its client.
    let others = log.iter().filter(|line| !line.contains(" INFO ")).count() - told.len();
    assert_eq!(others, 0, "{log:?}");
}

#[tokio::test]
async fn beyond_the_limit_connections_wait() {
    let gate = Gate::start(echo().await, &["--max-connections", "1"]);
    let mut first = gate.client().await;
    round_trip(&mut first).await;
    let second = async { round_trip(&mut gate.client().await).await };
    let mut second = std::pin::pin!(second);
    tokio::select! {
        biased;
        () = &mut second => panic!("two at once"),
        () = async { for _ in 0..20 { round_trip(&mut first).await } } => {}
    }
    drop(first);
    soon(second).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_it_speaks_is_no_event() {
    let gate = Gate::start(echo().await, &[]);
    drop(TcpStream::connect(gate.address).await.unwrap());
    let line = gate.log_line("the client left before the handshake");
    assert!(line.contains("DEBUG"), "{line}");
}

/// A TLS handshake message whose header announces a great length.
fn endless(kind: u8, length: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0xf0, 0];
    message.resize(length, 0);
    message
}

/// If the gate kept the whole message, each client could use 64 KiB of memory.
#[tokio::test]
async fn a_hello_without_end_is_not_kept() {
    let gate = Gate::start(echo().await, &["--handshake-timeout", NEVER]);
    let mut client = gate.tcp().await;
    let message = endless(1, 40_000);
    for part in message.chunks(16 * 1024) {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        client.write_all(&[&[0x16, 3, 1], &length[..], part].concat()).await.unwrap();
    }
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    gate.log_line("too long");
}

#[tokio::test]
async fn a_message_without_end_after_the_handshake_is_not_kept() {
    let gate = Gate::start(echo().await, &[]);
    let mut config = gate.pki.client_config(&TLS13);
    config.enable_secret_extraction = true;
    let mut client = gate.client_of(config.into()).await;
    round_trip(&mut client).await;
    // No TLS library sends this message, so the test encrypts it itself.
    let (mut tcp, tls) = client.into_inner();
    assert_eq!(tls.negotiated_cipher_suite(), Some(TLS13_AES_256_GCM_SHA384));
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_256_GCM_SHA384 else { panic!() };
    let (sequence, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!() };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    // 24 is the type of a key update (RFC 8446, 4).
    for (part, sequence) in endless(24, 32 * 1024).chunks(16 * 1024).zip(sequence..) {
        let record = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_3,
            payload: part.into(),
        };
        let record = encrypter.encrypt(record, sequence).unwrap().encode();
        tcp.write_all(&record).await.unwrap();
    }
    assert!(rest(&mut tcp).await.is_ok());
    gate.log_line("ended=\"client broke TLS\"");
}
