//! Tests of the admin port and of the access log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::Signal;
use testkit::metrics::samples;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Gate, NEVER, VERSIONS, backend, echo, rest, round_trip, soon};

/// Sends a GET request, and returns the status code and the body.
async fn get(admin: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await.unwrap()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The samples of `/metrics`. The keys are the full names with labels.
pub(crate) async fn metrics(admin: SocketAddr) -> HashMap<String, f64> {
    let (status, text) = get(admin, "/metrics", "localhost").await;
    assert_eq!(status, 200);
    samples(&text)
}

#[tokio::test]
async fn without_the_option_there_is_no_port() {
    let gate = Gate::start(echo().await, &[]);
    round_trip(&mut gate.client().await).await;
    let own = format!("/proc/{}/net/tcp", gate.pid());
    assert!(std::path::Path::new(&own).exists());
    let fds = std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).unwrap();
    let sockets: Vec<_> = fds
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect::<Vec<u64>>();
    // In `/proc/net/tcp`, state 0A means LISTEN, and the tenth field is the inode.
    let listening = std::fs::read_to_string(own).unwrap();
    let listening = listening.lines().filter(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(3) == Some(&"0A")
            && fields
                .get(9)
                .and_then(|inode| inode.parse().ok())
                .is_some_and(|inode| sockets.contains(&inode))
    });
    assert_eq!(listening.count(), 1);
}

#[tokio::test]
async fn health_status_and_who_may_ask() {
    let gate = Gate::start(echo().await, &["--admin", "127.0.0.1:0", "--drain", NEVER]);
    let admin = gate.admin();
    let mut client = gate.client().await;
    round_trip(&mut client).await;
    assert_eq!(get(admin, "/healthz", "localhost").await, (200, "ok\n".to_owned()));
    assert_eq!(get(admin, "/readyz", &admin.to_string()).await.0, 200);
    assert_eq!(get(admin, "/status", "evil.example").await.0, 403);
    assert_eq!(get(admin, "/nothing", "localhost").await.0, 404);

    let (_, status) = get(admin, "/status", "localhost").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["connections"], 1);
    assert_eq!(status["certificate"]["names"], serde_json::json!(["localhost"]));
    assert!(status["certificate"]["expires"].as_i64().unwrap() > 1_700_000_000);

    // The port answers during the drain. It is closed when the gate ends.
    gate.signal(Signal::TERM);
    // The gate needs a moment to handle the signal.
    soon(async { while get(admin, "/readyz", "localhost").await.0 != 503 {} }).await;
    assert_eq!(get(admin, "/healthz", "localhost").await.0, 200);
    drop(client);
    assert_eq!(gate.ended().await.0.code(), Some(0));
    assert!(TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn everything_is_counted() {
    let gate = Gate::start(echo().await, &["--admin", "127.0.0.1:0"]);
    let admin = gate.admin();
    let config: Vec<_> = VERSIONS.iter().map(|version| gate.pki.client(version)).collect();
    for config in &config {
        for _ in 0..2 {
            let mut client = gate.client_of(Arc::clone(config)).await;
            round_trip(&mut client).await;
            // The round trip is over, so the client has its session ticket and can close. The log
            // line that is awaited below shows that the gate has seen the close.
            client.shutdown().await.unwrap();
            assert_eq!(rest(&mut client).await.unwrap(), b"");
            gate.log_line("access");
        }
    }
    gate.tcp().await.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    gate.log_line("does not speak TLS");
    drop(gate.tcp().await);
    gate.log_line("left before");
    gate.tcp().await.write_all(&[0x16, 3, 1, 0, 1, 9]).await.unwrap();
    gate.log_line("the handshake failed");
    let mut live = gate.client_of(Arc::clone(&config[1])).await;
    round_trip(&mut live).await;

    // The client may have read an answer before the gate counted it, so this waits for the count.
    let forwarded = |direction| format!("gate_forwarded_bytes_total{{direction=\"{direction}\"}}");
    let counted = async {
        loop {
            let now = metrics(admin).await;
            if now[&forwarded("to_client")] >= 5.0 * 12.0 {
                return now;
            }
        }
    };
    let now = soon(counted).await;
    let value = |name: &str| *now.get(name).unwrap_or_else(|| panic!("no {name} in {now:#?}"));
    let handshakes = |outcome: &str, version: &str, group: &str| {
        let labels = format!("outcome=\"{outcome}\",version=\"{version}\",group=\"{group}\"");
        value(&format!("gate_handshakes_total{{{labels}}}"))
    };
    assert_eq!(handshakes("full", "TLSv1.3", "X25519"), 1.0);
    assert_eq!(handshakes("resumed", "TLSv1.3", "X25519"), 2.0);
    assert_eq!(handshakes("full", "TLSv1.2", "X25519"), 1.0);
    assert_eq!(handshakes("resumed", "TLSv1.2", ""), 1.0);
    for outcome in ["not_tls", "left", "failed"] {
        assert_eq!(handshakes(outcome, "", ""), 1.0, "{outcome}");
    }
    assert_eq!(value("gate_resumptions_total"), 3.0);
    assert_eq!(value("gate_accepted_total"), 8.0);
    // The open connection is counted.
    assert_eq!(value("gate_connections"), 1.0);
    for direction in ["to_backend", "to_client"] {
        assert_eq!(value(&forwarded(direction)), 5.0 * 12.0);
    }
    assert_eq!(value("gate_backend_errors_total"), 0.0);
    assert!(value("gate_certificate_expiry_seconds") > 1.7e9);
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(value(name) >= 0.0);
    }
}

#[tokio::test]
async fn refusals_and_backend_errors_are_counted() {
    let (listener, address) = backend().await;
    drop(listener);
    let options = ["--admin", "127.0.0.1:0", "--max-handshakes-per-address", "1"];
    let gate = Gate::start(address, &options);
    let admin = gate.admin();
    assert_eq!(rest(&mut gate.client().await).await.unwrap(), b"");
    let line = gate.log_line("access");
    assert!(line.contains("no backend"), "{line}");
    let _silent = gate.tcp().await;
    assert_eq!(rest(&mut gate.tcp().await).await.unwrap(), b"");
    let now = metrics(admin).await;
    assert_eq!(now["gate_backend_errors_total"], 1.0);
    assert_eq!(now["gate_handshakes_unfinished"], 1.0);
    assert_eq!(now["gate_refused_total{reason=\"handshakes_per_address\"}"], 1.0);
}

#[tokio::test]
async fn each_connection_has_one_line_that_says_how_it_was() {
    let (listener, address) = backend().await;
    let gate = Gate::start(address, &["--log-format", "json"]);
    let mut client = gate.client().await;
    let (mut server, _) = soon(listener.accept()).await.unwrap();
    client.write_all(b"four").await.unwrap();
    soon(server.read_exact(&mut [0; 4])).await.unwrap();
    server.write_all(b"fifteen").await.unwrap();
    drop(server);
    assert_eq!(rest(&mut client).await.unwrap(), b"fifteen");
    let peer = client.get_ref().0.local_addr().unwrap();
    drop(client);

    let line = gate.log_line("\"access\"");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["target"]), (&"INFO".into(), &"access".into()));
    assert_eq!(line["peer"], peer.to_string());
    assert_eq!((&line["to_backend"], &line["to_client"]), (&4.into(), &7.into()));
    assert_eq!((&line["tls"], &line["resumed"]), (&"TLSv1.3".into(), &false.into()));
    assert_eq!(line["ended"], "by the backend");
    assert!(line["ms"].is_u64());
}

#[tokio::test]
async fn the_access_log_can_be_silenced() {
    let gate = Gate::start(echo().await, &["--log", "info,access=off"]);
    let mut client = gate.client().await;
    round_trip(&mut client).await;
    drop(client);
    gate.signal(Signal::TERM);
    let (_, log) = gate.ended().await;
    assert!(!log.iter().any(|line| line.contains("access")), "{log:?}");
}
