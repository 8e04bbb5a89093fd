//! Tests an unreliable connection to NATS, and a stream that changes unexpectedly.

use std::net::TcpListener;

use async_nats::jetstream;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{PATIENCE, soon, within};

use super::nats::Nats;
use super::{Common, accepted, broadcast, is_ready, send, until_peers};
use crate::harness::{ALICE, BOB, Line, Server};

/// An entry that was lost on its way is fetched again. The server does not mistake it for an entry
/// that the stream has deleted, so no client is disconnected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_on_the_way_is_asked_for_again() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to_nats(nats.node(0)).await;
    let (far, near) = (common.server_over(&line), common.server());
    let (_, _, mut alice) = far.come_back(ALICE, &Value::Null).await;
    let mut expected = Vec::new();
    // The last message is lost too, and no later entry follows that could show that it is missing.
    for number in 0..5 {
        let message = json!(format!("message {number}"));
        if number % 2 == 0 {
            line.lose(message.as_str().unwrap());
        }
        assert_eq!(near.post(&broadcast(&message)).await.0, 200);
        expected.push(message);
    }
    for message in expected {
        assert_eq!(alice.message().await, message);
    }
    assert!(line.has_lost());
    assert_eq!(alice.ask(&json!({"action":"ping"})).await["ok"], "ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_are_answered_while_nats_stands_still() {
    const MESSAGES: u64 = 10_000;
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to_nats(nats.node(0)).await;
    let server = common.server_over(&line);
    let (_, _, mut alice) = server.come_back(ALICE, &Value::Null).await;
    let mut sender = server.connect().await;
    line.stand_still();
    // These are more bytes than all buffers on the way hold.
    for number in 0..MESSAGES {
        sender.send(&broadcast(&json!(number))).await;
    }
    let mut outcomes = Vec::new();
    for _ in 0..MESSAGES {
        let reply = sender.next().await;
        assert_eq!(reply["error"], "unavailable", "{reply}");
        outcomes.push(reply["outcome"].as_str().unwrap().to_owned());
    }
    line.heal();
    let last = accepted(&server, &send(ALICE, &json!("last"), "mid")).await;
    assert_eq!(last["clients"], 1);
    // A message whose outcome was `refused` was not stored, so only `unknown` ones may arrive
    // before the last one.
    loop {
        let delivery = alice.next().await;
        match delivery["message"].as_u64() {
            Some(number) => assert_eq!(outcomes[usize::try_from(number).unwrap()], "unknown"),
            None => break assert_eq!(delivery["message"], "last"),
        }
    }
}

#[tokio::test]
async fn a_server_knows_all_the_others_when_it_takes_clients() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let first = common.server();
    let (_, _, _listener) = first.come_back(ALICE, &Value::Null).await;
    let second = common.server();
    let (_, sent) = second.post(&broadcast(&json!(1))).await;
    assert_eq!((&sent["clients"], &sent["partial"]), (&json!(1), &Value::Null));
    let (_, _, _another) = second.come_back(BOB, &Value::Null).await;
    let (_, sent) = first.post(&broadcast(&json!(2))).await;
    assert_eq!((&sent["clients"], &sent["partial"]), (&json!(2), &Value::Null));
}

#[tokio::test]
async fn a_stop_ends_a_start_that_waits_for_nats() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let dir = tempfile::TempDir::new().unwrap();
    let key = dir.path().join("id.key");
    let mut program = crate::harness::program();
    program.args(["--listen", "127.0.0.1:0", "--admin", "off", "--nats", &url, "--id-key-file"]);
    let mut child = program.arg(key).spawn().unwrap();
    let (child, code) = tokio::task::spawn_blocking(move || {
        let _way = silent.accept().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        (child, status.code())
    })
    .await
    .unwrap();
    drop(child);
    assert_eq!(code, Some(0));
}

/// A wrong clock on one server must not make all messages expire on every server.
#[tokio::test]
async fn an_entry_has_the_time_of_the_stream() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let server = common.server();
    let (reply, _, mut alice) = server.come_back(ALICE, &Value::Null).await;
    let (_, sent) = server.post(&broadcast(&json!("before"))).await;
    let before = alice.next().await;
    let context = jetstream::new(nats.client().await);
    let kept = context.get_stream("tocsin").await.unwrap();
    let kept = kept.get_raw_message(sent["seq"].as_u64().unwrap()).await.unwrap();
    let at = u64::from_le_bytes(kept.payload[3..11].try_into().unwrap());
    assert!(at.abs_diff(before["at"].as_u64().unwrap()) < 10_000);
    // Appends an entry as a server with another clock would. The number in the entry has to differ
    // too.
    let append = async |at: u64, number: u8| {
        let mut payload = kept.payload.to_vec();
        payload[3..11].copy_from_slice(&at.to_le_bytes());
        payload[11] ^= number;
        let sent = context.publish(kept.subject.clone(), payload.into()).await.unwrap();
        sent.await.unwrap();
    };
    append(at + 100 * 365 * 86_400_000, 1).await;
    let later = alice.next().await;
    assert!(later["at"].as_u64().unwrap().abs_diff(at) < 60_000, "{later}");
    // A message that was on its way for minutes had the outcome `unknown`, so its sender may have
    // sent it again.
    append(at - 6 * 60_000, 2).await;
    assert_eq!(server.post(&broadcast(&json!("after"))).await.0, 200);
    assert_eq!(alice.message().await, "after");
    let since = json!({"epoch": reply["epoch"], "seq": 0});
    let (again, messages, _) = server.come_back(BOB, &since).await;
    assert_eq!((&again["recovered"], messages.len()), (&json!(true), 3));
}

/// NATS has lost its newest entries, for example because an older backup was restored, and other
/// entries were appended later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_put_back_gets_a_new_epoch() {
    let mut nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let server = common.server();
    for number in 0..3 {
        assert_eq!(server.post(&broadcast(&json!(number))).await.0, 200);
    }
    nats.kill_node(0);
    nats.save(0);
    nats.start_node(0);
    nats.ready().await;
    for number in 3..6 {
        accepted(&server, &send(ALICE, &json!("lost"), &number.to_string())).await;
    }
    server.signal(Signal::STOP);
    nats.kill_node(0);
    nats.put_back(0);
    nats.start_node(0);
    nats.ready().await;
    let other = common.server();
    let (reply, _, _) = other.come_back(ALICE, &Value::Null).await;
    for number in 3..9 {
        accepted(&other, &send(ALICE, &json!("other"), &number.to_string())).await;
    }
    server.signal(Signal::CONT);
    let said = ended_for_config(server).await;
    assert!(said.contains("are gone from the stream"), "{said}");
    // A cursor of the former epoch does not match the entries that came later.
    let fresh = common.server();
    let since = json!({"epoch": reply["epoch"], "seq": 6});
    let (again, _, _) = fresh.come_back(BOB, &since).await;
    assert_eq!(again["recovered"], false);
    assert_ne!(again["epoch"], reply["epoch"]);
    // Servers that still have the former epoch learn of the new one, and exit too.
    assert!(ended_for_config(other).await.contains("new epoch"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_can_be_given_and_ends_the_servers_that_have_the_old_one() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let server = common.server();
    let (reply, _, _) = server.come_back(ALICE, &Value::Null).await;
    let mut adopting = crate::harness::program();
    adopting.arg("adopt-settings").args(crate::harness::EVERYTHING_OPEN);
    adopting.args(common.options(&["--new-epoch"]));
    let output = testkit::output(adopting).await;
    assert!(output.status.success(), "{output:?}");
    let fresh = common.server();
    let (again, _, _) = fresh.come_back(BOB, &Value::Null).await;
    assert_ne!(again["epoch"], reply["epoch"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains(again["epoch"].as_str().unwrap()));
    assert!(ended_for_config(server).await.contains("new epoch"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_gone_is_said_and_ends_the_server() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to(nats.node(0)).await;
    let server = common.server_over(&line);
    assert_eq!(server.post(&broadcast(&json!(1))).await.0, 200);
    let context = jetstream::new(nats.client().await);
    context.delete_stream("tocsin").await.unwrap();
    let said = ended_for_config(server).await;
    assert!(said.contains("the stream cannot be read; trying again"), "{said}");
    assert!(said.contains("the stream no longer exists in NATS"), "{said}");
}

/// Waits for a server that must give up, and checks its exit code. Returns its log.
async fn ended_for_config(server: Server) -> String {
    let ended = within(3 * PATIENCE, server.ended()).await;
    assert_eq!(ended.status.code(), Some(78), "{}", ended.output);
    ended.output
}

/// A server that lags behind the stream confirms no read mark and no cursor for entries that it
/// does not have yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_behind_marks_and_resumes_nothing_that_it_does_not_know() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to(nats.node(0)).await;
    let (far, near) = (common.server_over(&line), common.server());
    until_peers(&near, 1).await;
    let (reply, _, mut alice) = near.come_back(ALICE, &Value::Null).await;
    line.cut();
    until_away(&far).await;
    let sent = accepted(&near, &send(ALICE, &json!("x"), "mid")).await;
    assert_eq!(alice.message().await, "x");
    let read = json!({"action":"read","tag":"shop","id":ALICE,"only":[sent["seq"]]});
    let (status, refused) = far.post(&read).await;
    assert_eq!((status, &refused["outcome"]), (503, &json!("refused")), "{refused}");
    let since = json!({"epoch": reply["epoch"], "seq": sent["seq"]});
    let mut moved = far.connect().await;
    let set = json!({"action":"set","tag":"shop","id":ALICE,"since":since});
    assert_eq!(moved.ask(&set).await["error"], "unavailable");
    line.heal();
    let ready = async { while !is_ready(&far).await {} };
    soon(ready).await;
    let back = moved.ask(&set).await;
    assert_eq!((&back["recovered"], &back["unread"]), (&json!(true), &json!([sent["seq"]])));
    assert_eq!(moved.next().await["event"], "live", "nothing comes twice");
    assert_eq!(far.post(&read).await.1["ok"], "read");
    assert_eq!(moved.next().await["event"], "read");
    let (_, inbox) = near.post(&json!({"action":"inbox","tag":"shop","id":ALICE})).await;
    assert_eq!(inbox["count"], 0);
}

/// A read mark that is not stored as an entry reaches the servers by another path than the message
/// that it marks. It must not arrive first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_mark_does_not_overtake_what_was_read() {
    const MESSAGES: usize = 300;
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to(nats.node(0)).await;
    let (far, near) = (common.server_over(&line), common.server_with(&["--send-rate", "off"]));
    until_peers(&near, 1).await;
    let (_, _, mut one) = near.come_back(ALICE, &Value::Null).await;
    let (_, _, mut other) = far.come_back(ALICE, &Value::Null).await;
    line.cut();
    until_away(&far).await;
    let mut last = Value::Null;
    for number in 0..MESSAGES {
        last = accepted(&near, &broadcast(&json!(number))).await["seq"].clone();
        one.message().await;
    }
    line.heal();
    let marking = async {
        loop {
            let reply = one.ask(&json!({"action":"read","tag":"shop","seq":last})).await;
            assert_eq!(reply["ok"], "read");
        }
    };
    let watching = async {
        let mut messages = 0;
        while other.next().await["event"] != "read" {
            messages += 1;
        }
        messages
    };
    let got = tokio::select! {
        () = marking => unreachable!(),
        got = watching => got,
    };
    assert_eq!(got, MESSAGES);
}

/// Returns when the server has noticed that it cannot reach NATS.
async fn until_away(server: &Server) {
    let away = async { while is_ready(server).await {} };
    soon(away).await;
}
