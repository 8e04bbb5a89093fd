//! Tests HTTP on the public port and on the admin port.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{ALICE, Server, exchange, post_head, request};

#[tokio::test]
async fn post_takes_one_action_or_an_array() {
    let server = Server::start(&[]);
    let mut alice = server.listener("t", Some(ALICE)).await;
    let batch = json!([
        {"action":"send","tag":"t","id":ALICE,"message":"one","ref":1},
        {"action":"set","tag":"t","ref":2},
        {"action":"broadcast","tag":"t","message":"two","ref":3},
        7,
    ]);
    let (status, replies) = server.post(&batch).await;
    assert_eq!(status, 200);
    assert_eq!(replies[0], json!({"ok":"send","seq":1,"clients":1,"stored":false,"ref":1}));
    assert_eq!((&replies[1]["error"], &replies[1]["ref"]), (&json!("bad_request"), &json!(2)));
    assert_eq!(replies[2], json!({"ok":"broadcast","seq":2,"clients":1,"ref":3}));
    assert_eq!(replies[3]["error"], "bad_request");
    assert_eq!(alice.message().await, "one");
    assert_eq!(alice.message().await, "two");
    assert_eq!(server.post(&json!([])).await, (200, json!([])));
}

#[tokio::test]
async fn a_sender_that_leaves_right_after_its_request_has_sent() {
    let server = Server::start(&[]);
    let mut alice = server.listener("t", Some(ALICE)).await;
    for number in 0..100 {
        let body = json!({"action":"broadcast","tag":"t","message":number}).to_string();
        let request = post_head(body.len()) + &body;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        if number % 2 == 0 {
            drop(stream);
        } else {
            // The client closes only its sending side, so the answer still comes.
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        assert_eq!(alice.message().await, number);
    }
}

#[tokio::test]
async fn statuses_of_refusals() {
    let server = Server::start(&[]);
    assert_eq!(server.post_with("no json", &[]).await.0, 400);
    assert_eq!(server.post_with("[1,", &[]).await.0, 400);
    assert_eq!(server.post_with("{\"action\":\"ping\"}", &[]).await.0, 400);
    let large = json!({"action":"broadcast","tag":"t","message":"x".repeat(70_000)});
    assert_eq!(server.post(&large).await.0, 413);
    let many = json!(vec![json!({"action":"ping"}); 1_001]);
    assert_eq!(server.post(&many).await.0, 413);
    let not_utf8 = request(server.address, "POST /messages", &[], &[b'{', 0xff]).await;
    assert_eq!(not_utf8.status, 400);
    for line in ["GET /messages", "DELETE /messages", "POST /ws", "PUT /client.js"] {
        let answer = request(server.address, line, &[], b"").await;
        assert_eq!(answer.status, 405, "{line}");
        assert!(answer.header("Allow").is_some());
    }
    assert_eq!(server.get("/nothing").await.status, 404);
    assert_eq!(server.get("/").await.status, 404);
    assert_eq!(server.get("/ws").await.status, 426);
    assert_eq!(server.connect_with(&[("sec-websocket-version", "8")]).await.err(), Some(426));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_in_words_that_arrive() {
    let server = Server::start(&[]);
    // A body with a `Content-Length` is refused before it has come.
    let length = 8 * 1024 * 1024 + 1;
    let head = post_head(length);
    let answer = exchange(server.address, &[head.as_bytes(), &vec![b' '; 200_000]].concat()).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("too_large"));
    // A chunked body is refused at the first byte beyond the limit.
    let mut chunked =
        b"POST /messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunked.extend(format!("{length:x}\r\n").bytes());
    chunked.extend(vec![b' '; length]);
    let answer = exchange(server.address, &chunked).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn pages_of_other_names_are_refused() {
    let server = Server::start(&["--origin", "https://shop.example"]);
    let post = async |origin: &str| {
        let headers = ["Host: notify.example:9091", origin];
        let body = json!({"action":"broadcast","tag":"t","message":1}).to_string();
        request(server.address, "POST /messages", &headers, body.as_bytes()).await
    };
    let own = post("Origin: https://notify.example").await;
    assert_eq!(own.status, 200);
    assert_eq!(own.header("Access-Control-Allow-Origin"), Some("https://notify.example"));
    assert_eq!(own.header("Vary"), Some("Origin"));
    assert_eq!(post("Origin: https://shop.example").await.status, 200);
    assert_eq!(post("Origin: https://evil.example").await.status, 403);
    assert_eq!(post("Origin: null").await.status, 403);
    assert_eq!(server.status().await["seq"], 2);

    assert_eq!(server.connect_with(&[("origin", "https://evil.example")]).await.err(), Some(403));
    assert!(server.connect_with(&[("origin", "https://shop.example")]).await.is_ok());

    let preflight = request(
        server.address,
        "OPTIONS /messages",
        &["Origin: https://shop.example", "Access-Control-Request-Method: POST"],
        b"",
    )
    .await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("Access-Control-Allow-Headers").unwrap().contains("authorization"));
}

#[tokio::test]
async fn administrators_are_answered_on_a_port_of_their_own() {
    let server = Server::start(&[]);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/status", 200), ("/x", 404)] {
        let answer = request(server.admin, &format!("GET {path}"), &[], b"").await;
        assert_eq!(answer.status, status, "{path}");
        if status == 200 {
            assert_eq!(server.get(path).await.status, 404, "{path} is not public");
        }
    }
    assert_eq!(request(server.admin, "POST /status", &[], b"").await.status, 405);
    let rebound = request(server.admin, "GET /status", &["Host: evil.example:9092"], b"").await;
    assert_eq!(rebound.status, 403);
    assert_eq!(server.status().await["log"], "memory");
}
