//! Tests servers that cannot reach NATS, or that fall behind.

use serde_json::{Value, json};
use testkit::soon;

use super::nats::Nats;
use super::{Common, accepted, broadcast, is_ready, until_peers};
use crate::harness::{ALICE, BOB, Line};

/// The mid of a message that is sent again stays the same. So the mid also serves as the text of
/// the message.
fn with_mid(message: &Value) -> Value {
    let mut action = broadcast(message);
    action["mid"] = json!(message.to_string());
    action
}

/// This test needs a second thread, which relays the connection while the servers start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_and_healed_loses_and_doubles_nothing() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to(nats.node(0)).await;
    let (far, near) = (common.server_over(&line), common.server_with(&["--send-rate", "off"]));
    until_peers(&near, 1).await;
    let (_, _, mut alice) = far.come_back(ALICE, &Value::Null).await;
    let mut expected = Vec::new();
    for round in 0..3 {
        for number in 0..20 {
            let message = json!([round, "before", number]);
            accepted(&far, &with_mid(&message)).await;
            expected.push(message);
        }
        line.cut();
        // The clients of `far` stay connected, and its senders get true answers. The first answer
        // may be `unknown`, if the message was sent before the server noticed the cut.
        let refusal = async {
            loop {
                let (_, reply) = far.post(&broadcast(&json!("never"))).await;
                assert_eq!(reply["error"], "unavailable", "{reply}");
                if reply["outcome"] == "refused" {
                    break;
                }
            }
        };
        soon(refusal).await;
        assert!(!is_ready(&far).await);
        let mut newcomer = far.connect().await;
        assert_eq!(newcomer.ask(&json!({"action":"ping"})).await["ok"], "ping");
        for number in 0..20 {
            let message = json!([round, "meanwhile", number]);
            assert_eq!(near.post(&broadcast(&message)).await.0, 200);
            expected.push(message);
        }
        line.heal();
        let ready = async { while !is_ready(&far).await {} };
        soon(ready).await;
        let message = json!([round, "after"]);
        accepted(&far, &with_mid(&message)).await;
        expected.push(message);
    }
    let mut got = Vec::new();
    let mut last = 0;
    while got.len() < expected.len() {
        let delivery = alice.next().await;
        let seq = delivery["seq"].as_u64().unwrap();
        assert!(seq > last, "in order");
        last = seq;
        // A message whose outcome was `unknown` may have been stored.
        if delivery["message"] != "never" {
            got.push(delivery["message"].clone());
        }
    }
    assert_eq!(got, expected);
}

#[tokio::test]
async fn nats_itself_restarts() {
    let mut nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let server = common.server();
    let (reply, _, mut alice) = server.come_back(ALICE, &Value::Null).await;
    accepted(&server, &with_mid(&json!(1))).await;
    nats.kill_node(0);
    nats.start_node(0);
    nats.ready().await;
    accepted(&server, &with_mid(&json!(2))).await;
    for number in [1, 2] {
        assert_eq!(alice.message().await, number);
    }
    let since = json!({"epoch": reply["epoch"], "seq": 0});
    let (again, messages, _) = server.come_back(BOB, &since).await;
    assert_eq!((&again["recovered"], messages), (&json!(true), vec![json!(1), json!(2)]));
}

/// The stream keeps fewer entries than are published while the slow server is cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_entries_says_so_and_begins_anew() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let small = ["--nats-size", "1MiB", "--send-rate", "off"];
    let line = Line::to(nats.node(0)).await;
    let (slow, quick) = (common.server_over_with(&line, &small), common.server_with(&small));
    until_peers(&quick, 1).await;
    let (reply, _, mut alice) = slow.come_back(ALICE, &Value::Null).await;
    let (_, sent) = quick.post(&broadcast(&json!("seen"))).await;
    assert_eq!(alice.message().await, "seen");
    line.cut();
    let large = "x".repeat(30_000);
    let mut last = Value::Null;
    for _ in 0..100 {
        let (status, reply) = quick.post(&broadcast(&json!(large))).await;
        assert_eq!(status, 200, "{reply}");
        last = reply["seq"].clone();
    }
    line.heal();
    assert_eq!(alice.closed().await, Some(1001));
    let since = json!({"epoch": reply["epoch"], "seq": sent["seq"]});
    let caught_up = async { while slow.status().await["seq"] != last {} };
    soon(caught_up).await;
    let mut kept = Vec::new();
    for server in [&slow, &quick] {
        let (again, messages, _) = server.come_back(BOB, &since).await;
        kept.push((again["recovered"].clone(), messages.len()));
    }
    // The slow server has lost messages and reports it. The ring of the other server still holds
    // them, so that server has no loss to report.
    assert_eq!(kept[0].0, false);
    assert!((5..40).contains(&kept[0].1), "{kept:?}");
    let (_, sent) = slow.post(&broadcast(&json!("on it goes"))).await;
    assert_eq!(sent["error"], Value::Null, "{sent}");
}

/// Eight attempts to connect fail first, because NATS may start at the same time and take longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_may_come_up_after_the_server() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to(nats.node(0)).await;
    line.cut();
    let healing = async {
        line.until_refused(8).await;
        line.heal();
    };
    // The harness blocks this thread until the server announces its addresses.
    let (server, ()) = std::thread::scope(|scope| {
        let server = scope.spawn(|| common.server_over(&line));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(healing);
        });
        (server.join().unwrap(), ())
    });
    accepted(&server, &with_mid(&json!(1))).await;
    let log = server.stop().await.output;
    assert_eq!(log.matches("does not answer for 0 s; trying for 29 s more").count(), 1, "{log}");
    assert_eq!(log.matches("does not answer").count(), 1, "{log}");
}

#[tokio::test]
async fn nats_that_stays_away_ends_the_start_after_a_stated_time() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", gone.local_addr().unwrap());
    drop(gone);
    let dir = tempfile::TempDir::new().unwrap();
    let mut program = crate::harness::program();
    program.args(["--listen", "127.0.0.1:0", "--admin", "off", "--nats", &url, "--id-key-file"]);
    program.arg(dir.path().join("id.key"));
    let begun = std::time::Instant::now();
    let output = testkit::output(program).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{log}");
    assert!((25..40).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(log.lines().last().unwrap().contains("no connection within 30 s"), "{log}");
    assert!(log.contains("start NATS, or correct the addresses of --nats"), "{log}");
    // The line is logged at the first attempt and every ten seconds.
    assert_eq!(log.matches("does not answer for").count(), 3, "{log}");
}

/// Each attempt to connect fails for the same reason, so the reason is logged once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_told_once_and_so_is_its_end() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let line = Line::to(nats.node(0)).await;
    let server = common.server_over(&line);
    accepted(&server, &with_mid(&json!(1))).await;
    line.cut();
    line.until_refused(5).await;
    line.heal();
    accepted(&server, &with_mid(&json!(2))).await;
    let log = server.stop().await.output;
    let told: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") && line.contains("NATS")).collect();
    let [lost, back] = told[..] else { panic!("{log}") };
    assert!(lost.contains("the connection to NATS is lost"), "{log}");
    assert!(back.contains("connected to NATS again, after"), "{log}");
}
