//! Tests registrations, and which clients receive which message.

use serde_json::json;

use crate::harness::{ALICE, BOB, Server};

#[tokio::test]
async fn without_set_a_connection_is_on_no_list_and_gets_nothing() {
    let server = Server::start(&[]);
    let mut stranger = server.connect().await;
    assert_eq!(stranger.ask(&json!({"action": "ping"})).await, json!({"ok": "ping"}));
    assert_eq!(server.status().await["tags"], json!({}));
    assert_eq!(server.status().await["connections"], 1);

    let (_, reply) = server.post(&json!({"action":"broadcast","tag":"t","message":1})).await;
    assert_eq!(reply["clients"], 0);
    // The client's next frame is the reply to its ping, so it did not get the broadcast.
    assert_eq!(stranger.ask(&json!({"action": "ping"})).await, json!({"ok": "ping"}));

    stranger.set("t", None).await;
    assert_eq!(server.counts("t").await, (1, 0));
    stranger.set("t", Some(ALICE)).await;
    assert_eq!(server.counts("t").await, (1, 1));
    server.post(&json!({"action":"broadcast","tag":"t","message":2})).await;
    assert_eq!(stranger.message().await, 2);

    assert_eq!(stranger.ask(&json!({"action":"unset","tag":"t"})).await["ok"], "unset");
    assert_eq!(server.counts("t").await, (0, 0));
    server.post(&json!({"action":"broadcast","tag":"t","message":3})).await;
    let reply = stranger.ask(&json!({"action":"unset","tag":"t"})).await;
    assert_eq!(reply["error"], "not_registered");
}

#[tokio::test]
async fn a_registration_is_answered_and_then_live() {
    let server = Server::start(&[]);
    let mut client = server.connect().await;
    server.post(&json!({"action":"broadcast","tag":"other","message":1})).await;
    let reply = client.ask(&json!({"action":"set","tag":"t","ref":"r"})).await;
    let epoch = server.status().await["epoch"].clone();
    assert_eq!(reply, json!({"ok":"set","tag":"t","epoch":epoch,"ref":"r"}));
    assert_eq!(client.next().await, json!({"event":"live","tag":"t","seq":1}));

    let since = json!({"epoch": epoch, "seq": 0});
    let reply = client.ask(&json!({"action":"set","tag":"t","since":since})).await;
    assert_eq!((&reply["recovered"], reply.get("unread")), (&json!(true), None), "no inboxes here");
    assert_eq!(client.next().await["event"], "live");
}

#[tokio::test]
async fn a_sender_is_on_no_list_and_its_message_outlives_it() {
    let server = Server::start(&[]);
    let mut alice = server.listener("t", Some(ALICE)).await;
    for number in 0..20 {
        let mut sender = server.connect().await;
        sender.send(&json!({"action":"send","tag":"t","id":ALICE,"message":number})).await;
        sender.vanish();
        assert_eq!(alice.message().await, number);
    }
    let mut sender = server.connect().await;
    let reply = sender.ask(&json!({"action":"broadcast","tag":"t","message":"all"})).await;
    assert_eq!(reply["clients"], 1);
    assert_eq!(server.counts("t").await, (1, 1));
    assert_eq!(alice.message().await, "all");
    // The sender's next frame is the reply to the next action, not the broadcast.
    assert_eq!(sender.ask(&json!({"action":"ping"})).await, json!({"ok":"ping"}));
}

#[tokio::test]
async fn many_frames_and_an_abrupt_end_lose_nothing() {
    let server = Server::start(&[]);
    let mut alice = server.listener("t", Some(ALICE)).await;
    let mut sender = server.connect().await;
    sender
        .send_at_once(
            (0..200).map(|number| json!({"action":"send","tag":"t","id":ALICE,"message":number})),
        )
        .await;
    // The client has not read its replies, so closing its socket sends RST.
    sender.vanish();
    for number in 0..200 {
        assert_eq!(alice.message().await, number);
    }
}

#[tokio::test]
async fn tags_never_leak_into_each_other() {
    let server = Server::start(&[]);
    let mut shop = server.listener("shop", Some(ALICE)).await;
    let mut blog = server.listener("blog", Some(ALICE)).await;
    let send =
        |tag: &str, message: &str| json!({"action":"send","tag":tag,"id":ALICE,"message":message});
    server.post(&json!({"action":"broadcast","tag":"shop","message":"to all of shop"})).await;
    server.post(&send("shop", "to alice of shop")).await;
    server.post(&send("blog", "to alice of blog")).await;
    assert_eq!(shop.message().await, "to all of shop");
    assert_eq!(shop.message().await, "to alice of shop");
    assert_eq!(blog.message().await, "to alice of blog");
}

#[tokio::test]
async fn a_direct_message_reaches_one_person_only() {
    let server = Server::start(&[]);
    let mut alice = server.listener("t", Some(ALICE)).await;
    let mut bob = server.listener("t", Some(BOB)).await;
    let mut nobody = server.listener("t", None).await;
    let (status, reply) =
        server.post(&json!({"action":"send","tag":"t","id":ALICE,"message":"hi","ref":2})).await;
    assert_eq!(status, 200);
    assert_eq!(reply, json!({"ok":"send","seq":1,"clients":1,"stored":false,"ref":2}));
    server.post(&json!({"action":"broadcast","tag":"t","message":"all"})).await;
    let direct = alice.next().await;
    assert!(direct["at"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!((&direct["tag"], &direct["seq"]), (&json!("t"), &json!(1)));
    assert_eq!((&direct["message"], &direct["direct"]), (&json!("hi"), &json!(true)));
    for client in [&mut alice, &mut bob, &mut nobody] {
        let broadcast = client.next().await;
        assert_eq!(broadcast["message"], "all");
        assert!(broadcast.get("direct").is_none());
    }
}

#[tokio::test]
async fn unknown_and_weak_ids() {
    let server = Server::start(&[]);
    let send = |id: &str| json!({"action":"send","tag":"t","id":id,"message":1});
    let (status, reply) = server.post(&send(BOB)).await;
    assert_eq!((status, &reply["clients"], &reply["stored"]), (200, &json!(0), &json!(false)));
    for weak in ["12345678901234567890", "short", "aaaabbbbccccdddd"] {
        let (status, reply) = server.post(&send(weak)).await;
        assert_eq!((status, &reply["error"]), (400, &json!("weak_id")));
        let mut client = server.connect().await;
        let reply = client.ask(&json!({"action":"set","tag":"t","id":weak})).await;
        assert_eq!(reply["error"], "weak_id");
        assert!(!reply.to_string().contains(weak));
    }
    assert_eq!(server.status().await["tags"], json!({}));
}

#[tokio::test]
async fn every_connection_of_an_id_gets_one_copy() {
    let server = Server::start(&[]);
    let mut tabs = Vec::new();
    for _ in 0..3 {
        tabs.push(server.listener("t", Some(ALICE)).await);
    }
    let send = json!({"action":"send","tag":"t","id":ALICE,"message":"first"});
    assert_eq!(server.post(&send).await.1["clients"], 3);
    tabs.pop().unwrap().close().await;
    let send = json!({"action":"send","tag":"t","id":ALICE,"message":"second"});
    assert_eq!(server.post(&send).await.1["clients"], 2);
    for tab in &mut tabs {
        assert_eq!(tab.message().await, "first");
        assert_eq!(tab.message().await, "second");
    }
    assert_eq!(server.counts("t").await, (2, 1));
}

#[tokio::test]
async fn a_tag_registered_twice_gives_one_copy() {
    let server = Server::start(&[]);
    let mut client = server.listener("t", Some(ALICE)).await;
    client.set("t", Some(ALICE)).await;
    client.set("t", Some(BOB)).await;
    assert_eq!(server.counts("t").await, (1, 1));
    let (_, reply) = server.post(&json!({"action":"broadcast","tag":"t","message":1})).await;
    assert_eq!(reply["clients"], 1);
    let send = |id: &str, message: u8| json!({"action":"send","tag":"t","id":id,"message":message});
    assert_eq!(server.post(&send(ALICE, 2)).await.1["clients"], 0);
    assert_eq!(server.post(&send(BOB, 3)).await.1["clients"], 1);
    assert_eq!(client.message().await, 1);
    assert_eq!(client.message().await, 3);
}

#[tokio::test]
async fn one_connection_too_many_closes_the_oldest() {
    let server = Server::start(&[]);
    let mut oldest = server.listener("t", Some(ALICE)).await;
    let mut others = Vec::new();
    for _ in 0..16 {
        others.push(server.listener("t", Some(ALICE)).await);
    }
    assert_eq!(oldest.closed().await, Some(4005));
    assert_eq!(server.counts("t").await, (16, 1));
    let send = json!({"action":"send","tag":"t","id":ALICE,"message":1});
    assert_eq!(server.post(&send).await.1["clients"], 16);
    for client in &mut others {
        assert_eq!(client.message().await, 1);
    }
}

#[tokio::test]
async fn a_connection_listens_on_32_tags_at_most() {
    let server = Server::start(&[]);
    let mut client = server.connect().await;
    for number in 0..32 {
        client.set(&format!("t{number}"), None).await;
    }
    let reply = client.ask(&json!({"action":"set","tag":"t32"})).await;
    assert_eq!(reply["error"], "bad_request");
    client.set("t0", Some(ALICE)).await;
    for number in 0..32 {
        let tag = format!("t{number}");
        server.post(&json!({"action":"broadcast","tag":tag,"message":number})).await;
        assert_eq!(client.message().await, number);
    }
}

#[tokio::test]
async fn an_abrupt_end_takes_a_connection_off_both_lists() {
    let server = Server::start(&[]);
    let alice = server.listener("t", Some(ALICE)).await;
    let _bob = server.listener("t", Some(BOB)).await;
    assert_eq!(server.counts("t").await, (2, 2));
    alice.vanish();
    server.until_counts("t", (1, 1)).await;
}
