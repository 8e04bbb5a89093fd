//! Tests the memory budget that all requests share.

use serde_json::{Value, json};
use testkit::files::directory_with;
use testkit::soon;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{ALICE, Server, post_head};

/// The size of the largest body that is accepted.
const BODY: usize = 8 * 1024 * 1024;

/// Sends the head of a request with a large body.
async fn announce(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(post_head(BODY).as_bytes()).await.unwrap();
    stream
}

async fn sends(server: &Server) {
    let (status, reply) =
        server.post(&json!({"action":"broadcast","tag":"t","message":"small"})).await;
    assert_eq!(status, 200, "{reply}");
}

#[tokio::test]
async fn bodies_that_are_only_announced_take_nothing() {
    let server = Server::start(&[]);
    let mut announced = Vec::new();
    for _ in 0..50 {
        announced.push(announce(&server).await);
        sends(&server).await;
    }
}

#[tokio::test]
async fn however_many_large_ones_come_there_is_room_for_small_ones() {
    let server = Server::start(&[]);
    let mut large = Vec::new();
    let almost = vec![b' '; BODY - 1];
    // The request is refused in the end. Writing may fail before that, because so much of the
    // request is unread.
    let refused = loop {
        let mut stream = announce(&server).await;
        let _ = stream.write_all(&almost).await;
        large.push(stream);
        let (status, reply) = server.post_with(&" ".repeat(BODY), &[]).await;
        match status {
            // The server had room for the body and read it. The body consists of spaces, which are
            // not valid JSON.
            400 => assert!(large.len() < 100, "all of them have room"),
            status => {
                assert_eq!(status, 503, "{reply}");
                break reply;
            }
        }
    };
    assert_eq!(
        (&refused["error"], &refused["outcome"]),
        (&json!("unavailable"), &json!("refused"))
    );
    sends(&server).await;
    // The memory is free again once these requests are gone.
    drop(large);
    let free = async { while server.post_with(&" ".repeat(BODY), &[]).await.0 != 400 {} };
    soon(free).await;
}

#[tokio::test]
async fn small_requests_for_large_inboxes_are_answered_as_far_as_there_is_room() {
    const KEY: &str = "rooms-key-0123456789abcdef";
    let dir = directory_with("key", KEY);
    let server = Server::start_in(dir, &["--protect", "shop:send:{dir}/key"]);
    let message = "x".repeat(20_000);
    let send =
        json!({"action":"send","tag":"shop","id":ALICE,"key":KEY,"message":message}).to_string();
    let fifty = format!("[{}]", vec![send; 50].join(","));
    assert_eq!(server.post_with(&fifty, &[]).await.0, 200);

    let inbox = json!({"action":"inbox","tag":"shop","id":ALICE});
    let wanted = json!(vec![&inbox; 200]);
    for _ in 0..3 {
        let (status, replies) = server.post(&wanted).await;
        assert_eq!(status, 200);
        let replies = replies.as_array().unwrap();
        let whole = |reply: &Value| reply["messages"].as_array().is_some_and(|all| all.len() == 50);
        let given = replies.iter().take_while(|reply| whole(reply)).count();
        assert!((2..10).contains(&given), "{given} of 1 MB each");
        for reply in &replies[given..] {
            assert_eq!(
                (&reply["error"], &reply["outcome"]),
                (&json!("unavailable"), &json!("refused"))
            );
        }
        assert_eq!(replies.len(), 200);
    }
    // A request that was answered holds no memory.
    let (status, reply) = server.post(&inbox).await;
    assert_eq!((status, &reply["count"]), (200, &json!(50)));
}
