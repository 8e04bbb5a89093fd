//! Tests three servers on one NATS.

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::soon;

use super::nats::Nats;
use super::{Common, KEY, broadcast, send, until_peers};
use crate::harness::{ALICE, BOB, Line, Server, program};

async fn three(common: &Common) -> [Server; 3] {
    let servers = [common.server(), common.server(), common.server()];
    for server in &servers {
        until_peers(server, 2).await;
    }
    servers
}

#[tokio::test]
async fn what_one_server_takes_reaches_the_clients_of_all() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let servers = three(&common).await;
    let mut listeners = Vec::new();
    for server in &servers {
        let (_, _, alice) = server.come_back(ALICE, &Value::Null).await;
        let (_, _, bob) = server.come_back(BOB, &Value::Null).await;
        listeners.push([alice, bob]);
    }
    let mut seqs = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let (status, all) = server.post(&broadcast(&json!(["all", number]))).await;
        assert_eq!((status, &all["clients"], &all["partial"]), (200, &json!(6), &Value::Null));
        let mid = format!("mid-{number}");
        let (status, one) = server.post(&send(ALICE, &json!(["alice", number]), &mid)).await;
        assert_eq!((status, &one["clients"], &one["stored"]), (200, &json!(3), &json!(true)));
        // If the message is sent again to another server, that server recognises it.
        let other = &servers[(number + 1) % 3];
        let (_, again) = other.post(&send(ALICE, &json!(["alice", number]), &mid)).await;
        assert_eq!((&again["duplicate"], &again["seq"]), (&json!(true), &one["seq"]));
        assert_eq!(again["clients"], 3);
        let (_, conflict) = other.post(&send(ALICE, &json!("other"), &mid)).await;
        assert_eq!(conflict["error"], "mid_conflict");
        seqs.push(one["seq"].clone());
    }
    for [alice, bob] in &mut listeners {
        for number in 0..3 {
            assert_eq!(alice.message().await, json!(["all", number]));
            assert_eq!(alice.message().await, json!(["alice", number]));
            assert_eq!(bob.message().await, json!(["all", number]));
        }
    }
    // Alice marks a message as read on one server. Her devices on the other servers get a `read`
    // event.
    let [first, rest @ ..] = &mut listeners[..] else { unreachable!() };
    let read = first[0].ask(&json!({"action":"read","tag":"shop","only":[seqs[1]]})).await;
    assert_eq!(read["ok"], "read");
    for [alice, bob] in &mut *rest {
        let event = alice.next().await;
        assert_eq!((&event["event"], &event["only"]), (&json!("read"), &json!([seqs[1]])));
        // Other people get no event.
        assert_eq!(bob.ask(&json!({"action":"ping"})).await["ok"], "ping");
    }
    let inbox = json!({"action":"inbox","tag":"shop","id":ALICE});
    for server in &servers {
        let (_, reply) = server.post(&inbox).await;
        let messages = reply["messages"].as_array().unwrap();
        let left: Vec<&Value> = messages.iter().map(|message| &message["seq"]).collect();
        assert_eq!(left, [&seqs[0], &seqs[2]]);
    }
    // A read mark that changes nothing stored is no entry, but her other devices still get the
    // event. Examples are a mark for a broadcast and a repeated mark.
    let (_, sent) = servers[0].post(&broadcast(&json!("all"))).await;
    assert_eq!(first[0].message().await, "all");
    for only in [&sent["seq"], &seqs[1]] {
        let read = first[0].ask(&json!({"action":"read","tag":"shop","only":[only]})).await;
        assert_eq!(read["ok"], "read");
        for [alice, _] in &mut *rest {
            let event = loop {
                let next = alice.next().await;
                if next["event"] == "read" {
                    break next;
                }
            };
            assert_eq!(event["only"], json!([only]));
        }
    }
    for server in &servers {
        assert_eq!(server.status().await["seq"], sent["seq"]);
    }
    for [_, bob] in &mut listeners {
        assert_eq!(bob.message().await, "all");
        assert_eq!(bob.ask(&json!({"action":"ping"})).await["ok"], "ping");
    }
    // `drop` closes only her connections and empties only her inbox, on all servers.
    let logout = json!({"action":"drop","tag":"shop","id":ALICE,"key":KEY});
    let (_, dropped) = servers[0].post(&logout).await;
    assert_eq!((&dropped["ok"], &dropped["clients"]), (&json!("drop"), &json!(3)));
    for [alice, bob] in &mut listeners {
        assert_eq!(alice.closed().await, Some(4004));
        assert_eq!(bob.ask(&json!({"action":"ping"})).await["ok"], "ping");
    }
    for server in &servers {
        assert_eq!(server.post(&inbox).await.1["count"], 0);
    }
}

#[tokio::test]
async fn clients_of_a_server_that_is_killed_resume_on_another() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let [first, second, third] = three(&common).await;
    let (reply, _, mut client) = first.come_back(ALICE, &Value::Null).await;
    let (_, sent) = second.post(&broadcast(&json!(1))).await;
    assert_eq!(client.message().await, 1);
    first.signal(Signal::KILL);
    first.ended().await;
    for number in 2..=20 {
        assert_eq!(second.post(&broadcast(&json!(number))).await.0, 200);
        let message = send(ALICE, &json!(["direct", number]), &number.to_string());
        assert_eq!(third.post(&message).await.0, 200);
    }
    let since = json!({"epoch": reply["epoch"], "seq": sent["seq"]});
    let (again, messages, _) = third.come_back(ALICE, &since).await;
    assert_eq!((&again["epoch"], &again["recovered"]), (&reply["epoch"], &json!(true)));
    let expected: Vec<Value> =
        (2..=20).flat_map(|number| [json!(number), json!(["direct", number])]).collect();
    assert_eq!(messages, expected);
    // A server that starts later replays the same history.
    let fresh = common.server();
    let (again, messages, _) = fresh.come_back(ALICE, &since).await;
    assert_eq!((&again["recovered"], messages), (&json!(true), expected));
}

/// The client's new server may lag a little behind its former server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_further_elsewhere_waits_for_its_new_server() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to(nats.node(0)).await;
    let (behind, ahead) = (common.server_over(&line), common.server());
    until_peers(&ahead, 1).await;
    let (reply, _, _) = ahead.come_back(ALICE, &Value::Null).await;
    line.cut();
    let (_, sent) = ahead.post(&broadcast(&json!("seen"))).await;
    let since = json!({"epoch": reply["epoch"], "seq": sent["seq"]});
    let mut client = behind.connect().await;
    client.send(&json!({"action":"set","tag":"shop","id":ALICE,"since":since})).await;
    line.heal();
    let reply = client.next().await;
    assert_eq!(reply["recovered"], true, "{reply}");
    assert_eq!(client.next().await["event"], "live");
}

/// An action that needs the count of a dead server waits only a moment for it.
#[tokio::test]
async fn a_server_that_stands_still_makes_counts_partial() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let [first, second, third] = three(&common).await;
    let (_, _, mut listener) = second.come_back(ALICE, &Value::Null).await;
    third.signal(Signal::STOP);
    let (_, reply) = first.post(&broadcast(&json!(1))).await;
    assert_eq!((&reply["clients"], &reply["partial"]), (&json!(1), &json!(true)));
    assert_eq!(listener.message().await, 1);
    // The number of connections that `drop` closed is unknown too.
    let logout = json!({"action":"drop","tag":"shop","id":BOB,"key":KEY});
    let (_, dropped) = first.post(&logout).await;
    assert_eq!((&dropped["clients"], &dropped["partial"]), (&json!(0), &json!(true)));
    // After a while the other servers no longer wait for the dead server, although its clients are
    // still connected.
    until_peers(&first, 1).await;
    let (_, reply) = first.post(&broadcast(&json!(2))).await;
    assert_eq!((&reply["clients"], &reply["partial"]), (&json!(1), &json!(true)));
    third.signal(Signal::CONT);
    until_peers(&first, 2).await;
    let caught_up = async { while third.status().await["seq"] != reply["seq"] {} };
    soon(caught_up).await;
    let epoch = third.status().await["epoch"].clone();
    let (_, messages, _) = third.come_back(BOB, &json!({"epoch": epoch, "seq": 0})).await;
    assert_eq!(messages, [json!(1), json!(2)]);
    let (_, reply) = first.post(&broadcast(&json!(3))).await;
    assert_eq!((&reply["clients"], &reply["partial"]), (&json!(1), &Value::Null), "it is back");
    // A server that stops tells the others, so they no longer wait for it.
    assert_eq!(third.stop().await.status.code(), Some(0));
    until_peers(&first, 1).await;
    let (_, reply) = first.post(&broadcast(&json!(4))).await;
    assert_eq!((&reply["clients"], &reply["partial"]), (&json!(1), &Value::Null));
}

/// The entry is stored, but its reply waits for the count of a silent server.
#[tokio::test]
async fn a_stop_waits_for_the_answer_that_waits_for_counts() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let [first, second, third] = three(&common).await;
    let mut alice = first.come_back(ALICE, &Value::Null).await.2;
    let mut bob = second.come_back(BOB, &Value::Null).await.2;
    third.signal(Signal::STOP);
    let mut sender = first.connect().await;
    sender.send(&broadcast(&json!("the last"))).await;
    assert_eq!(alice.message().await, "the last");
    first.signal(Signal::TERM);
    let reply = sender.next().await;
    assert_eq!((&reply["ok"], &reply["partial"]), (&json!("broadcast"), &json!(true)), "{reply}");
    assert_eq!(bob.message().await, "the last");
    assert_eq!(first.ended().await.status.code(), Some(0));
}

#[tokio::test]
async fn senders_of_the_command_line_reach_all() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let servers = three(&common).await;
    let (_, _, mut listener) = servers[2].come_back(ALICE, &Value::Null).await;
    let mut command = program();
    command.args(["send", "--tag", "shop", "--id", ALICE, "--require", "--to"]);
    command.arg(servers[0].url()).arg("from cron").env("TOCSIN_KEY", KEY);
    let output = testkit::output(command).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(listener.message().await, "from cron");
}
