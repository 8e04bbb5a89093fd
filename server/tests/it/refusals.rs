//! Refusals leave a trace: a counter each, and one line in the log that says what was wanted and from where.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{ALICE, Server, exchange, proxy_line, request};
use crate::metrics::metrics;

const KEY: &str = "wrong-key-0123456789abcdef";

#[tokio::test]
async fn each_kind_of_refusal_is_logged_once_and_counted() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("server.toml"), "[tags.shop]\n").unwrap();
    let server = Server::start_closed_in(dir, &["--config", "{dir}/server.toml"]);
    let large = format!("Cookie: {}", "c".repeat(100_000));
    for _ in 0..2 {
        let foreign = ["Origin: https://evil.example"];
        assert_eq!(request(server.address, "GET /client.js", &foreign, b"").await.status, 403);
        assert_eq!(request(server.address, "GET /client.js", &[&large], b"").await.status, 431);
        let old = b"GET /ws HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(exchange(server.address, old).await.status, 426);
        let mut client = server.connect().await;
        for (action, error) in [
            (json!({"action": "set", "tag": "shop", "id": "too-short"}), "weak_id"),
            (json!({"action": "set", "tag": "blog"}), "bad_tag"),
            (
                json!({"action": "send", "tag": "shop", "id": ALICE, "message": 1, "key": KEY}),
                "denied",
            ),
        ] {
            assert_eq!(client.ask(&action).await["error"], error);
        }
    }
    let counted = metrics(server.admin).await;
    for name in [
        "server_refused_origins_total",
        "server_refused_heads_total",
        "server_refused_http_1_0_total",
        "server_errors_total{code=\"weak_id\"}",
        "server_errors_total{code=\"bad_tag\"}",
        "server_errors_total{code=\"denied\"}",
    ] {
        assert_eq!(counted.get(name), Some(&2.0), "{name}: {counted:?}");
    }
    let log = server.stop().await.output;
    for line in [
        "a page of https://evil.example may not use this server, which it calls 127.0.0.1",
        "refused with 431, the last time to an unknown address",
        "a request for a WebSocket came by HTTP/1.0",
        "weak_id: ",
        "bad_tag: ",
        "denied: the key is wrong for send on shop",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    for secret in [KEY, ALICE, "too-short"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

/// Where the server knows the address of a client, the line names it, and control characters of a header
/// stay out of the log.
#[tokio::test]
async fn the_line_names_the_address_and_a_header_cannot_forge_another_line() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0"]);
    let head = proxy_line("192.0.2.7")
        + "GET /client.js HTTP/1.1\r\nHost: a\r\nOrigin: https://\u{e9}\u{1b}[31mevil\r\n\
           Connection: close\r\n\r\n";
    let answer = exchange(server.proxied.unwrap(), head.replace('\u{1b}', "\t").as_bytes()).await;
    assert_eq!(answer.status, 403);
    let log = server.stop().await.output;
    assert!(log.contains("the last time to 192.0.2.7"), "{log}");
    let line = log.lines().find(|line| line.contains("refused with 403")).unwrap();
    assert!(line.is_ascii() && !line.contains('\t'), "{line}");
}
