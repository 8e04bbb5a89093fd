//! Tests the keys for protected pairs of tag and action.

use serde_json::json;
use testkit::files::directory_with;

use crate::harness::{ALICE, Server};

const SEND_KEY: &str = "send-key-0123456789abcdef";
const NEWS_KEY: &str = "news-key-0123456789abcdef";

/// Starts a server on which keys protect `send` and `broadcast` on the tag shop, and `broadcast` on
/// the tag news.
fn protected() -> Server {
    let dir = directory_with("send", format!("{SEND_KEY}\nanything else\n"));
    std::fs::write(dir.path().join("news"), NEWS_KEY).unwrap();
    Server::start_in(
        dir,
        &[
            "--protect",
            "shop:send:{dir}/send",
            "--protect",
            "shop:broadcast:{dir}/news",
            "--protect",
            "news:broadcast:{dir}/news",
        ],
    )
}

#[tokio::test]
async fn only_the_right_key_delivers() {
    let server = protected();
    let mut alice = server.listener("shop", Some(ALICE)).await;
    let mut sender = server.connect().await;
    let send = |key: Option<&str>| json!({"action":"send","tag":"shop","id":ALICE,"message":key,"key":key});
    for key in [None, Some(""), Some("wrong"), Some(NEWS_KEY), Some("send-key-0123456789abcdeF")] {
        let reply = sender.ask(&send(key)).await;
        assert_eq!(reply["error"], "denied", "{key:?}");
        let (status, reply) = server.post(&send(key)).await;
        assert_eq!(reply["error"], "denied", "{key:?}");
        assert_eq!(status, if key.unwrap_or_default().is_empty() { 401 } else { 403 });
    }
    assert_eq!(sender.ask(&send(Some(SEND_KEY))).await["clients"], 1);
    // No denied message arrived before this one.
    assert_eq!(alice.message().await, SEND_KEY);
    assert_eq!(
        server.status().await["protected"],
        json!(["news:broadcast", "shop:send", "shop:broadcast"])
    );
}

#[tokio::test]
async fn other_pairs_stay_open() {
    let server = protected();
    // The actions `set` on shop and `send` on news need no key.
    let mut alice = server.listener("news", Some(ALICE)).await;
    alice.set("shop", Some(ALICE)).await;
    let (_, reply) =
        server.post(&json!({"action":"send","tag":"news","id":ALICE,"message":1})).await;
    assert_eq!(reply["clients"], 1);
    assert_eq!(alice.message().await, 1);
}

#[tokio::test]
async fn a_bearer_token_stands_for_the_key() {
    let server = protected();
    let body = json!({"action":"broadcast","tag":"news","message":1}).to_string();
    let post = async |header: &str| server.post_with(&body, &[header]).await;
    assert_eq!(post(&format!("Authorization: Bearer {NEWS_KEY}")).await.0, 200);
    assert_eq!(post(&format!("authorization: bearer {NEWS_KEY}")).await.0, 200);
    assert_eq!(post(&format!("Authorization: Bearer {SEND_KEY}")).await.0, 403);
    assert_eq!(post(&format!("Authorization: Basic {NEWS_KEY}")).await.0, 401);
    assert_eq!(post("Authorization: Bearer ").await.0, 401);
    let batch = json!([
        {"action":"broadcast","tag":"news","message":1},
        {"action":"send","tag":"shop","id":ALICE,"message":1},
        {"action":"send","tag":"shop","id":ALICE,"message":1,"key":SEND_KEY},
    ]);
    let (status, replies) =
        server.post_with(&batch.to_string(), &[&format!("Authorization: Bearer {NEWS_KEY}")]).await;
    assert_eq!(status, 200);
    assert_eq!(replies[0]["ok"], "broadcast");
    assert_eq!(replies[1]["error"], "denied");
    assert_eq!(replies[2]["ok"], "send");
}

#[tokio::test]
async fn a_remembered_key_works_for_that_connection_and_tag_only() {
    let server = protected();
    let broadcast = |tag: &str| json!({"action":"broadcast","tag":tag,"message":"x"});
    let mut admin = server.connect().await;
    let set = json!({"action":"set","tag":"news","keys":{"broadcast":NEWS_KEY}});
    assert_eq!(admin.ask(&set).await["ok"], "set");
    assert_eq!(admin.next().await["event"], "live");
    admin.send(&broadcast("news")).await;
    // The sender's reply and its own copy of the message come in any order.
    let (first, second) = (admin.next().await, admin.next().await);
    assert!(first["ok"] == "broadcast" || second["ok"] == "broadcast");

    // A key in the action takes precedence over the remembered key.
    let wrong = json!({"action":"broadcast","tag":"news","message":"x","key":SEND_KEY});
    assert_eq!(admin.ask(&wrong).await["error"], "denied");
    assert_eq!(admin.ask(&broadcast("shop")).await["error"], "denied");
    let mut other = server.listener("news", None).await;
    assert_eq!(other.ask(&broadcast("news")).await["error"], "denied");
    // A new registration without keys clears the remembered keys.
    admin.set("news", None).await;
    assert_eq!(admin.ask(&broadcast("news")).await["error"], "denied");
}

#[tokio::test]
async fn set_itself_can_be_protected() {
    let dir = directory_with("key", SEND_KEY);
    let server = Server::start_in(dir, &["--protect", "staff:set:{dir}/key"]);
    let mut client = server.connect().await;
    assert_eq!(client.ask(&json!({"action":"set","tag":"staff"})).await["error"], "denied");
    assert_eq!(server.status().await["tags"], json!({}));
    let set = json!({"action":"set","tag":"staff","key":SEND_KEY});
    assert_eq!(client.ask(&set).await["ok"], "set");
    assert_eq!(server.counts("staff").await, (1, 0));
}
