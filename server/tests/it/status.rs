//! Tests the tags in `/status`.

use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Server, request};
use crate::metrics::{KEY, shop};

#[tokio::test]
async fn a_tag_without_listeners_is_told_of_while_it_holds_something() {
    let server = shop();
    for id in [ALICE, BOB] {
        let send = json!({"action":"send","tag":"shop","id":id,"message":1,"key":KEY});
        server.post(&send).await;
    }
    let shop = json!({"registrations":0,"ids":0,"deliveries":0,"broadcasts":0,"unread":2});
    assert_eq!(server.status().await["tags"], json!({"shop": shop}));
}

#[tokio::test]
async fn status_names_the_largest_of_many_tags_first() {
    let server = Server::start(&[]);
    let mut clients = Vec::new();
    for client in 0..4 {
        let mut connection = server.connect().await;
        for number in 0..31 {
            connection.set(&format!("t{client}-{number}"), None).await;
        }
        connection.set("zz-popular", None).await;
        clients.push(connection);
    }
    let answer = request(server.admin, "GET /status", &[], b"").await;
    let status: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(status["tags"].as_object().unwrap().len(), 100);
    assert_eq!(status["tags_left_out"], 25);
    let (_, tags) = answer.body.split_once("\"tags\": {").unwrap();
    assert!(tags.trim_start().starts_with("\"zz-popular\""), "{tags}");
    assert_eq!(status["tags"]["zz-popular"]["registrations"], 4);
}
