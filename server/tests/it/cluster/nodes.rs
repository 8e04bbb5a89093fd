//! Three nodes of NATS. One after the other dies.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{PATIENCE, within};
use tokio::sync::watch;

use super::nats::Nats;
use super::{Common, accepted, broadcast, until_peers};
use crate::harness::{ALICE, Server};

const KILLS: u16 = 5;

/// Publishes until `stop` is set. Each message is sent with its mid until it is accepted, and then
/// counted. Returns the messages by their sequence numbers, and the longest pause between two
/// replies.
async fn publish(
    server: Arc<Server>,
    name: usize,
    stop: Arc<AtomicBool>,
    count: watch::Sender<u64>,
) -> (BTreeMap<u64, Value>, Duration) {
    let (mut seqs, mut pause, mut last) = (BTreeMap::new(), Duration::ZERO, Instant::now());
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut action = broadcast(&json!([name, number]));
        action["mid"] = json!(format!("{name}-{number}"));
        let reply = accepted(&server, &action).await;
        seqs.insert(reply["seq"].as_u64().unwrap(), action["message"].clone());
        pause = pause.max(last.elapsed());
        last = Instant::now();
        count.send_modify(|count| *count += 1);
    }
    (seqs, pause)
}

/// Waits until each publisher has had a message accepted that it sent after this call.
async fn until_each_has_published(counts: &mut [watch::Receiver<u64>]) {
    // The current message of a publisher may have been sent before this call, so the next one is
    // needed too.
    let wanted: Vec<u64> = counts.iter().map(|count| *count.borrow() + 2).collect();
    for (count, wanted) in counts.iter_mut().zip(wanted) {
        let published = count.wait_for(|count| *count >= wanted);
        within(3 * PATIENCE, published).await.expect("a publisher that goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_dies_under_load_and_nothing_acknowledged_is_lost() {
    let mut nats = Nats::start(3).await;
    let common = Common::of(&nats, 3);
    let servers: Vec<Arc<Server>> =
        (0..3).map(|_| Arc::new(common.server_with(&["--send-rate", "off"]))).collect();
    until_peers(&servers[0], 2).await;
    let mut listeners = Vec::new();
    for server in &servers {
        listeners.push(server.come_back(ALICE, &Value::Null).await.2);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (publishers, mut counts): (Vec<_>, Vec<_>) = (0..6)
        .map(|name| {
            let server = Arc::clone(&servers[name % 3]);
            let (count, counted) = watch::channel(0);
            (tokio::spawn(publish(server, name, Arc::clone(&stop), count)), counted)
        })
        .unzip();
    let listening: Vec<_> = listeners
        .into_iter()
        .map(|mut listener| {
            tokio::spawn(async move {
                // This task only collects, because an assertion that fails in it would not fail the
                // test.
                let mut got = Vec::new();
                loop {
                    let delivery = listener.next().await;
                    if delivery["message"] == "the end" {
                        return got;
                    }
                    got.push((delivery["seq"].as_u64().unwrap(), delivery["message"].clone()));
                }
            })
        })
        .collect();
    until_each_has_published(&mut counts).await;
    // The probe is a tag without listeners.
    let probe = json!({"action":"broadcast","tag":"probe","message":"is it under way?"});
    for _ in 0..KILLS {
        // All servers accept messages again before the next leader dies.
        for server in &servers {
            accepted(server, &probe).await;
        }
        let leader = nats.leader("tocsin").await;
        nats.kill_node(leader);
        // Two nodes are a majority.
        for server in &servers {
            accepted(server, &probe).await;
        }
        nats.start_node(leader);
        nats.ready().await;
        nats.until_current("tocsin").await;
        until_each_has_published(&mut counts).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for publisher in publishers {
        let (theirs, pause) = publisher.await.unwrap();
        acknowledged.extend(theirs);
        longest = longest.max(pause);
    }
    let (status, _) = servers[0].post(&broadcast(&json!("the end"))).await;
    assert_eq!(status, 200);
    for listener in listening {
        let got = listener.await.unwrap();
        assert!(got.is_sorted_by(|(one, _), (next, _)| one < next), "in order, each once");
        let got: BTreeMap<u64, Value> = got.into_iter().collect();
        for (seq, message) in &acknowledged {
            assert_eq!(got.get(seq), Some(message), "an acknowledged message");
        }
        // A message whose outcome was `unknown` was sent again, and its copy was recognised.
        assert_eq!(got.len(), acknowledged.len(), "each once");
    }
    let _ = writeln!(
        std::io::stderr(),
        "{} messages through {KILLS} deaths of the leader; the longest pause of a sender: {longest:?}",
        acknowledged.len()
    );
}
