//! Tests `--max-memory` with a publisher that floods the server.

use std::collections::HashMap;

use serde_json::{Value, json};
use testkit::files::directory_with;

use crate::harness::{ALICE, Server};
use crate::metrics::metrics;

const KEY: &str = "budget-key-0123456789abcdef";
const LIMIT: f64 = 2.0 * 1024.0 * 1024.0;

/// A flooded server. `published` contains the sequence numbers for each target, which is a tag with
/// an ID, or with `None` for everyone.
struct Flooded {
    server: Server,
    published: HashMap<(String, Option<String>), Vec<u64>>,
    epoch: Value,
}

impl Flooded {
    async fn start() -> Self {
        let dir = directory_with("key", KEY);
        let protect = ["crowd", "calm"].map(|tag| format!("{tag}:send:{{dir}}/key"));
        let arguments = ["--max-memory", "2MiB", "--send-rate", "off", "--protect", &protect[0]];
        let server = Server::start_in(dir, &[&arguments[..], &["--protect", &protect[1]]].concat());
        let mut client = server.connect().await;
        let epoch = client.ask(&json!({"action":"set","tag":"quiet"})).await["epoch"].clone();
        Self { server, published: HashMap::new(), epoch }
    }

    /// Posts a batch. Until the reply comes, compares the stored bytes with the limit again and
    /// again.
    async fn publish(&mut self, batch: &[Value]) {
        let body = json!(batch).to_string();
        let bearer = format!("Authorization: Bearer {KEY}");
        let headers = [&*bearer];
        let posting = self.server.post_with(&body, &headers);
        tokio::pin!(posting);
        let (status, replies) = loop {
            tokio::select! {
                posted = &mut posting => break posted,
                () = self.holds() => {}
            }
        };
        assert_eq!(status, 200);
        self.holds().await;
        for (action, reply) in batch.iter().zip(replies.as_array().unwrap()) {
            let text = |name: &str| action[name].as_str().map(str::to_owned);
            let seq = reply["seq"].as_u64().unwrap_or_else(|| panic!("{reply}"));
            self.published.entry((text("tag").unwrap(), text("id"))).or_default().push(seq);
        }
    }

    async fn holds(&self) {
        let now = metrics(self.server.admin).await;
        assert_eq!(now["server_kept_limit_bytes"], LIMIT);
        assert!(now["server_kept_bytes"] <= LIMIT, "{}", now["server_kept_bytes"]);
    }

    /// Registers with a cursor from before all messages. Returns the `recovered` of the reply, and
    /// whether all messages came.
    async fn come_back(&self, tag: &str, id: Option<&str>) -> (bool, bool) {
        let mut client = self.server.connect().await;
        let since = json!({"epoch": self.epoch, "seq": 0});
        let set = json!({"action": "set", "tag": tag, "id": id, "since": since});
        let reply = client.ask(&set).await;
        let mut got = Vec::new();
        loop {
            let next = client.next().await;
            if next["event"] == "live" {
                break;
            }
            got.push(next["seq"].as_u64().unwrap_or_else(|| panic!("{next}")));
        }
        let of = |id: Option<&str>| {
            let who = (tag.to_owned(), id.map(str::to_owned));
            self.published.get(&who).cloned().unwrap_or_default()
        };
        let mut wanted = of(None);
        if id.is_some() {
            wanted.extend(of(id));
            wanted.sort_unstable();
        }
        assert!(got.iter().all(|seq| wanted.contains(seq)));
        (reply["recovered"].as_bool().unwrap(), got == wanted)
    }
}

fn broadcast(tag: &str, length: usize) -> Value {
    json!({"action": "broadcast", "tag": tag, "message": "x".repeat(length)})
}

fn send(tag: &str, id: &str, length: usize) -> Value {
    json!({"action": "send", "tag": tag, "id": id, "message": "x".repeat(length)})
}

#[tokio::test]
async fn a_flood_of_large_tags_and_inboxes_takes_nothing_from_the_small_ones() {
    let mut flooded = Flooded::start().await;
    flooded.publish(&[broadcast("quiet", 500), send("calm", ALICE, 500)]).await;
    let tags: Vec<String> = (0..10).map(|number| format!("flood-{number}")).collect();
    let people: Vec<String> = (0..40).map(|number| format!("crowd-{number:03}-abcdef")).collect();
    for round in 0..20 {
        let mut batch = Vec::new();
        for tag in &tags {
            batch.extend((0..5).map(|_| broadcast(tag, 3_000)));
        }
        batch.extend(people.iter().map(|id| send("crowd", id, 3_000)));
        if round == 10 {
            batch.extend([broadcast("quiet", 500), send("calm", ALICE, 500)]);
        }
        flooded.publish(&batch).await;
    }
    assert_eq!(flooded.come_back("quiet", None).await, (true, true));
    assert_eq!(flooded.come_back("calm", Some(ALICE)).await, (true, true));
    for tag in &tags {
        assert_eq!(flooded.come_back(tag, None).await, (false, false), "{tag}");
    }
    for id in &people {
        assert_eq!(flooded.come_back("crowd", Some(id)).await, (false, false), "{id}");
    }
}

/// No tag and no inbox of the flood holds more messages than a harmless one would.
#[tokio::test]
async fn a_flood_of_tags_and_people_stays_within_the_limit_and_is_told_of() {
    let mut flooded = Flooded::start().await;
    flooded.publish(&[broadcast("quiet", 500), send("calm", ALICE, 500)]).await;
    for round in 0..10 {
        let mut batch: Vec<Value> =
            (0..800).map(|number| broadcast(&format!("t-{round}-{number}"), 400)).collect();
        batch.extend(
            (0..200).map(|number| send("crowd", &format!("p-{round}-{number:03}-abcdefgh"), 400)),
        );
        flooded.publish(&batch).await;
    }
    let mut told = Vec::new();
    for (tag, id) in [("quiet", None), ("calm", Some(ALICE))] {
        told.push(flooded.come_back(tag, id).await);
    }
    for round in 0..10 {
        for number in (0..200).step_by(40) {
            told.push(flooded.come_back(&format!("t-{round}-{number}"), None).await);
            let id = format!("p-{round}-{number:03}-abcdefgh");
            told.push(flooded.come_back("crowd", Some(&id)).await);
        }
    }
    // A client that has lost a message gets `recovered: false`. If the server cannot remember all
    // losses, `false` may also be a false alarm.
    assert!(told.iter().all(|(recovered, all)| *all || !recovered), "{told:?}");
    assert!(told.iter().any(|(_, all)| !all), "nothing was lost");
}
