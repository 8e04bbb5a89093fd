//! Messages for clients that are away: rings, inboxes, read marks and replays.

use serde_json::{Value, json};
use testkit::files::directory_with;
use tokio::net::TcpSocket;

use crate::harness::{ALICE, BOB, Client, Server};
use crate::metrics::until;

const KEY: &str = "shop-key-0123456789abcdef";

/// Starts a server on which `send` and `drop` on the tag shop are protected, so that the tag has
/// inboxes.
fn shop() -> Server {
    let dir = directory_with("key", KEY);
    let protect = ["--protect", "shop:send:{dir}/key", "--protect", "shop:drop:{dir}/key"];
    Server::start_in(dir, &protect)
}

async fn send(server: &Server, id: &str, message: impl Into<Value>) -> Value {
    let message: Value = message.into();
    let action = json!({"action":"send","tag":"shop","id":id,"key":KEY,"message":message});
    let (status, reply) = server.post(&action).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

async fn broadcast(server: &Server, tag: &str, message: impl Into<Value>) -> u64 {
    let message: Value = message.into();
    let (_, reply) = server.post(&json!({"action":"broadcast","tag":tag,"message":message})).await;
    reply["seq"].as_u64().unwrap()
}

/// Registers with more fields. Returns the reply, and everything before the `live` event.
async fn set(client: &mut Client, fields: Value) -> (Value, Vec<Value>) {
    let mut action = json!({"action":"set","tag":"shop"});
    action.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let reply = client.ask(&action).await;
    let mut replayed = Vec::new();
    loop {
        let frame = client.next().await;
        if frame["event"] == "live" {
            return (reply, replayed);
        }
        replayed.push(frame);
    }
}

fn messages(frames: &[Value]) -> Vec<&Value> {
    frames.iter().map(|frame| &frame["message"]).collect()
}

#[tokio::test]
async fn an_inbox_waits_for_its_person_until_it_is_read() {
    let server = shop();
    let reply = send(&server, ALICE, "one").await;
    assert_eq!((&reply["clients"], &reply["stored"]), (&json!(0), &json!(true)));
    send(&server, BOB, "not hers").await;
    send(&server, ALICE, "two").await;

    let mut phone = server.connect().await;
    let (reply, replayed) = set(&mut phone, json!({"id": ALICE})).await;
    assert_eq!(reply["unread"], json!([1, 3]));
    assert_eq!(messages(&replayed), ["one", "two"]);
    assert_eq!((&replayed[0]["direct"], replayed[0].get("seen")), (&json!(true), None));

    // A second device gets the same messages. When the first device marks a message as read, only
    // the second one gets an event.
    let mut desk = server.connect().await;
    assert_eq!(messages(&set(&mut desk, json!({"id": ALICE})).await.1), ["one", "two"]);
    let reply = phone.ask(&json!({"action":"read","tag":"shop","only":[3],"ref":7})).await;
    assert_eq!(reply, json!({"ok":"read","ref":7}));
    assert_eq!(desk.next().await, json!({"event":"read","tag":"shop","only":[3]}));
    let reply = desk.ask(&json!({"action":"read","tag":"shop","seq":1})).await;
    assert_eq!(reply, json!({"ok":"read"}));
    assert_eq!(phone.next().await, json!({"event":"read","tag":"shop","seq":1}));

    // A later registration gets no message that was read. The inbox of the other person is
    // unchanged.
    let mut later = server.connect().await;
    let (reply, replayed) = set(&mut later, json!({"id": ALICE})).await;
    assert_eq!((&reply["unread"], replayed), (&json!([]), vec![]));
    assert_eq!(set(&mut later, json!({"id": BOB})).await.0["unread"], json!([2]));
}

#[tokio::test]
async fn a_cursor_brings_what_came_after_it_in_order_and_once() {
    let server = shop();
    broadcast(&server, "shop", "a").await;
    send(&server, ALICE, "b").await;
    broadcast(&server, "other", "elsewhere").await;
    broadcast(&server, "shop", "c").await;
    send(&server, ALICE, "d").await;
    let epoch = server.status().await["epoch"].clone();
    let since = |seq: u64| json!({"epoch": epoch, "seq": seq});

    let mut client = server.connect().await;
    let (reply, replayed) = set(&mut client, json!({"id": ALICE, "since": since(2)})).await;
    assert_eq!((&reply["recovered"], &reply["unread"]), (&json!(true), &json!([2, 5])));
    assert_eq!(messages(&replayed), ["c", "d"]);

    // With a cursor and `unread` the client gets its whole inbox. Messages up to the cursor have
    // the field `seen`.
    let mut client = server.connect().await;
    let with_unread = json!({"id": ALICE, "since": since(4), "unread": true});
    let (_, replayed) = set(&mut client, with_unread).await;
    assert_eq!(messages(&replayed), ["b", "d"]);
    assert_eq!((&replayed[0]["seen"], replayed[1].get("seen")), (&json!(true), None));

    // A second registration on one connection repeats no message. It delivers the messages that the
    // first one left out.
    let (_, replayed) = set(&mut client, json!({"id": ALICE, "since": since(0)})).await;
    assert_eq!(messages(&replayed), ["a", "c"]);

    // Without a cursor the client gets the unread messages of its inbox, and as many messages of
    // the ring as it asks for.
    let mut client = server.connect().await;
    let (reply, replayed) = set(&mut client, json!({"id": ALICE, "last": 1})).await;
    assert_eq!(reply.get("recovered"), None);
    assert_eq!(messages(&replayed), ["b", "c", "d"]);
    let mut client = server.connect().await;
    assert_eq!(messages(&set(&mut client, json!({"last": 9})).await.1), ["a", "c"]);
}

#[tokio::test]
async fn recovered_is_false_exactly_where_something_is_missing() {
    let server = shop();
    let epoch = server.status().await["epoch"].clone();
    let mut last = 0;
    for number in 0..101 {
        last = broadcast(&server, "shop", number).await;
    }
    for (cursor, recovered, count) in [
        (json!({"epoch": epoch, "seq": 0}), false, 100),
        (json!({"epoch": epoch, "seq": 1}), true, 100),
        (json!({"epoch": epoch, "seq": last}), true, 0),
        // A cursor of another epoch, or beyond the newest message, counts as no cursor.
        (json!({"epoch": "other", "seq": 1}), false, 0),
        (json!({"epoch": epoch, "seq": last + 1}), false, 0),
    ] {
        let mut client = server.connect().await;
        let (reply, replayed) = set(&mut client, json!({"since": cursor})).await;
        assert_eq!((&reply["recovered"], replayed.len()), (&json!(recovered), count), "{cursor}");
    }
    // A second request on the same connection gets `recovered: false` again.
    let mut client = server.connect().await;
    for _ in 0..2 {
        let cursor = json!({"epoch": epoch, "seq": 0});
        assert_eq!(set(&mut client, json!({"since": cursor})).await.0["recovered"], false);
    }
    // On a tag without inboxes, the direct message is lost for its addressee, who was away. Other
    // people have lost nothing.
    let direct = json!({"action":"send","tag":"open","id":ALICE,"message":1});
    let (_, reply) = server.post(&direct).await;
    assert_eq!(reply["stored"], false);
    for (id, recovered) in [(ALICE, false), (BOB, true)] {
        let mut client = server.connect().await;
        let since = json!({"epoch": epoch, "seq": last});
        let set = json!({"action":"set","tag":"open","id":id,"since":since});
        assert_eq!(client.ask(&set).await["recovered"], recovered);
    }
}

#[tokio::test]
async fn a_replay_larger_than_the_outbox_completes_and_live_messages_follow_it() {
    let server = shop();
    let filler = "x".repeat(60_000);
    for number in 0..90 {
        broadcast(&server, "shop", json!([number, filler])).await;
    }
    let epoch = server.status().await["epoch"].clone();
    let mut client = server.connect().await;
    let since = json!({"epoch": epoch, "seq": 0});
    client.send(&json!({"action":"set","tag":"shop","since":since})).await;
    assert_eq!(client.next().await["recovered"], true);
    // More messages are published than may wait behind a replay, before the client has read much of
    // the replay.
    for number in 90..99 {
        broadcast(&server, "shop", json!([number, filler])).await;
    }
    let mut seen = Vec::new();
    let mut lives = Vec::new();
    while seen.len() < 99 {
        let frame = client.next().await;
        match frame["event"].as_str() {
            Some("live") => lives.push(frame["seq"].as_u64().unwrap()),
            None => seen.push(frame["message"][0].as_u64().unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (0..99).collect::<Vec<_>>());
    if lives.is_empty() {
        lives.push(client.next().await["seq"].as_u64().unwrap());
    }
    assert_eq!(lives.len(), 1, "{lives:?}");
    assert!(lives[0] >= 90);
}

/// The replay is larger than the socket's buffers and the outbox together, and the ring drops
/// messages while the replay is stalled.
#[tokio::test]
async fn what_a_stalled_replay_has_missed_is_told_once_and_it_goes_on_from_the_oldest_kept() {
    const RING: u64 = 100;
    let server = shop();
    let filler = "x".repeat(60_000);
    for number in 0..RING {
        broadcast(&server, "shop", json!([number, filler])).await;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let url = format!("ws://{}/ws", server.address);
    let mut client = Client::over(stream, &url, &[]).await.unwrap();
    let since = json!({"epoch": server.status().await["epoch"], "seq": 0});
    let reply = client.ask(&json!({"action":"set","tag":"shop","since":since})).await;
    assert_eq!(reply["recovered"], true);
    let now = until(server.admin, "server_replays", 1.0).await;
    assert!(now["server_replayed_total"] < RING as f64);
    // The ring drops everything that the client has not taken yet.
    for number in RING..2 * RING {
        broadcast(&server, "shop", json!([number, filler])).await;
    }
    let (mut before, mut after, mut gaps) = (Vec::new(), Vec::new(), 0);
    let live = loop {
        let frame = client.next().await;
        match frame["event"].as_str() {
            Some("gap") => {
                assert_eq!(frame, json!({"event": "gap", "tag": "shop"}));
                gaps += 1;
            }
            Some(event) => {
                assert_eq!(event, "live");
                break frame["seq"].as_u64().unwrap();
            }
            None if gaps == 0 => before.push(frame["message"][0].as_u64().unwrap()),
            None => after.push(frame["message"][0].as_u64().unwrap()),
        }
    };
    assert_eq!(gaps, 1);
    assert!(before.len() < RING as usize && before.iter().copied().eq(0..before.len() as u64));
    // Messages that found no room behind the replay became part of it, up to the seq of the `live`
    // event.
    while after.len() < RING as usize {
        after.push(client.message().await[0].as_u64().unwrap());
    }
    assert_eq!(after, (RING..2 * RING).collect::<Vec<_>>());
    assert!(live > RING);
    broadcast(&server, "shop", "and on").await;
    assert_eq!(client.message().await, "and on");
}

#[tokio::test]
async fn replays_of_many_tags_share_the_room_of_one_connection() {
    let server = shop();
    let filler = "x".repeat(60_000);
    let tags: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
    for tag in &tags {
        for number in 0..20 {
            broadcast(&server, tag, json!([number, filler])).await;
        }
    }
    let epoch = server.status().await["epoch"].clone();
    let since = json!({"epoch": epoch, "seq": 0});
    let mut client = server.connect().await;
    let sets = tags.iter().map(|tag| json!({"action":"set","tag":tag,"since":since}));
    client.send_at_once(sets).await;
    // 14 MB are published before the client reads anything, which is far more than the sockets
    // hold.
    let mut seen = std::collections::HashMap::<String, Vec<u64>>::new();
    let mut lives = 0;
    while lives < tags.len() {
        let frame = client.next().await;
        lives += usize::from(frame["event"] == "live");
        if let Some(number) = frame["message"][0].as_u64() {
            seen.entry(frame["tag"].as_str().unwrap().into()).or_default().push(number);
        }
    }
    assert_eq!(seen.len(), tags.len());
    assert!(seen.values().all(|numbers| *numbers == (0..20).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_page_rendered_by_the_site_knows_what_is_unread() {
    let server = shop();
    send(&server, ALICE, json!({"n": 1.50})).await;
    broadcast(&server, "shop", "everyone").await;
    let inbox = json!({"action":"inbox","tag":"shop","id":ALICE});
    let (status, reply) = server.post(&inbox).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&reply["ok"], &reply["count"], &reply["seq"]),
        (&json!("inbox"), &json!(1), &json!(2))
    );
    let message = &reply["messages"][0];
    assert_eq!((&message["seq"], &message["direct"]), (&json!(1), &json!(true)));
    assert_eq!(message["message"].to_string(), r#"{"n":1.5}"#);

    // The seq and epoch of the reply form a cursor, and the client in the page continues from it.
    let mut page = server.connect().await;
    let since = json!({"epoch": reply["epoch"], "seq": reply["seq"]});
    let (set_reply, replayed) = set(&mut page, json!({"id": ALICE, "since": since})).await;
    assert_eq!((&set_reply["recovered"], replayed), (&json!(true), vec![]));

    // The site may mark messages as read over HTTP, and the page gets an event. The actions of a
    // batch run in order.
    let read = json!({"action":"read","tag":"shop","id":ALICE,"seq":9});
    let (_, replies) = server.post(&json!([inbox, read, inbox])).await;
    let counts = [&replies[0]["count"], &replies[1]["ok"], &replies[2]["count"]];
    assert_eq!(counts, [&json!(1), &json!("read"), &json!(0)]);
    // The mark covers the messages up to the newest one at that moment, but no later ones.
    assert_eq!(page.next().await, json!({"event":"read","tag":"shop","seq":2}));
    // The page may still show messages that no inbox holds any more, so read marks for them also
    // cause an event. Repeated marks add nothing to the log.
    let head = server.status().await["seq"].clone();
    for _ in 0..2 {
        let (_, reply) = server.post(&read).await;
        assert_eq!(reply["ok"], "read");
        assert_eq!(page.next().await["event"], "read");
    }
    assert_eq!(server.status().await["seq"], head);
}

#[tokio::test]
async fn a_logout_ends_connections_and_empties_the_inbox() {
    let server = shop();
    send(&server, ALICE, 1).await;
    let mut phone = server.listener_with_inbox(ALICE, 1).await;
    let mut desk = server.listener_with_inbox(ALICE, 1).await;
    let mut bob = server.listener("shop", Some(BOB)).await;
    let drop =
        |tag: &str, key: Option<&str>| json!({"action":"drop","tag":tag,"id":ALICE,"key":key});
    assert_eq!(server.post(&drop("shop", None)).await.0, 401);
    assert_eq!(server.post(&drop("shop", Some("wrong"))).await.0, 403);
    // On a tag without a key for `drop`, nobody may use `drop`.
    let (status, reply) = server.post(&drop("other", Some(KEY))).await;
    assert_eq!((status, &reply["error"]), (403, &json!("denied")));
    let reply = phone.ask(&drop("shop", Some(KEY))).await;
    assert_eq!(reply["error"], "bad_request", "not over a WebSocket");

    let (status, reply) = server.post(&drop("shop", Some(KEY))).await;
    assert_eq!((status, &reply["ok"], &reply["clients"]), (200, &json!("drop"), &json!(2)));
    assert_eq!(phone.closed().await, Some(4004));
    assert_eq!(desk.closed().await, Some(4004));
    assert_eq!(server.counts("shop").await, (1, 1));
    let mut later = server.connect().await;
    assert_eq!(set(&mut later, json!({"id": ALICE})).await.0["unread"], json!([]));
    send(&server, BOB, "still there").await;
    assert_eq!(bob.message().await, "still there");
}

#[tokio::test]
async fn only_who_listens_under_an_id_can_have_read_something() {
    let server = shop();
    let mut client = server.connect().await;
    let read = json!({"action":"read","tag":"shop","seq":1});
    assert_eq!(client.ask(&read).await["error"], "not_registered");
    client.set("shop", None).await;
    assert_eq!(client.ask(&read).await["error"], "not_registered");
    client.set("shop", Some(ALICE)).await;
    assert_eq!(client.ask(&read).await, json!({"ok":"read"}));
    for wrong in [
        json!({"action":"read","tag":"shop"}),
        json!({"action":"read","tag":"shop","seq":1,"only":[1]}),
        json!({"action":"read","tag":"shop","only":[]}),
        json!({"action":"read","tag":"shop","seq":1,"id":BOB}),
        json!({"action":"inbox","tag":"shop","id":ALICE}),
    ] {
        assert_eq!(client.ask(&wrong).await["error"], "bad_request", "{wrong}");
    }
    // Over HTTP, the action `read` needs an ID.
    assert_eq!(server.post(&read).await.0, 400);
}

#[tokio::test]
async fn one_mid_is_one_message_in_each_inbox() {
    let server = shop();
    let send = |id: &str, message: u32| json!({"action":"send","tag":"shop","id":id,"key":KEY,"message":message,"mid":"order-77"});
    let (_, first) = server.post(&send(ALICE, 1)).await;
    let (_, again) = server.post(&send(ALICE, 1)).await;
    assert_eq!((&again["seq"], &again["duplicate"]), (&first["seq"], &json!(true)));
    assert_eq!(again["stored"], true, "it still waits");
    assert_eq!(server.post(&send(ALICE, 2)).await.1["error"], "mid_conflict");
    assert_eq!(server.post(&send(BOB, 2)).await.1.get("duplicate"), None);
    for (id, wanted) in [(ALICE, json!([1])), (BOB, json!([2]))] {
        let (_, inbox) = server.post(&json!({"action":"inbox","tag":"shop","id":id})).await;
        let messages: Vec<&Value> = messages(inbox["messages"].as_array().unwrap());
        assert_eq!(json!(messages), wanted);
    }
}
