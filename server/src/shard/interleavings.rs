//! Registration, replay and live delivery in random interleavings: what each client saw.
//!
//! Everything between a client's text and its socket is real; the test decides whose turn it is,
//! how much each socket takes, and when a connection breaks.

use std::collections::{BTreeMap, BTreeSet};

use arc_swap::ArcSwap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::auth::{Auth, KeyHash, Protectable};
use crate::handler::Handler as _;
use crate::hub::Room;
use crate::id::IdKey;
use crate::keep::{Bounds, Settings, TagBounds};
use crate::log::MemoryLog;
use crate::outbox::Outbox;
use crate::outbox::pipe::Pipe;
use crate::policy::Policy;
use crate::protocol::{self, Action};
use crate::publish::Service;
use crate::rates::{Limits, Rates, Visitor};
use crate::session::Session;

const KEY: &str = "a-key-of-enough-length";
const CLIENTS: usize = 5;
const SHARDS: usize = 2;
/// Clients 0 and 1 are two devices of one person, 2 is another one, the others are nobody.
const IDS: [Option<&str>; CLIENTS] = [
    Some("a11ce-5f3c9a7e21b04d86"),
    Some("a11ce-5f3c9a7e21b04d86"),
    Some("b0b00-91c2d3e4f5a6b7c8"),
    None,
    None,
];

#[derive(Debug, Clone)]
enum Step {
    Broadcast {
        size: usize,
    },
    Direct {
        to: usize,
        size: usize,
    },
    /// A client connects, or registers anew on its connection, with its cursor.
    Set {
        client: usize,
    },
    Read {
        client: usize,
        only: bool,
    },
    Break {
        client: usize,
    },
    /// A client's socket takes so much.
    Room {
        client: usize,
        bytes: usize,
    },
    /// A shard takes its queue and serves so many turns.
    Turns {
        shard: usize,
        count: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![4 => 1..200_usize, 1 => 10_000..60_000_usize];
    let client = || 0..CLIENTS;
    prop_oneof![
        8 => size().prop_map(|size| Step::Broadcast { size }),
        8 => (0..3_usize, size()).prop_map(|(to, size)| Step::Direct { to, size }),
        6 => client().prop_map(|client| Step::Set { client }),
        2 => (client(), any::<bool>()).prop_map(|(client, only)| Step::Read { client, only }),
        2 => client().prop_map(|client| Step::Break { client }),
        8 => (client(), prop_oneof![1..2_000_usize, 1..400_000_usize])
            .prop_map(|(client, bytes)| Step::Room { client, bytes }),
        8 => (0..SHARDS, 0..4_usize).prop_map(|(shard, count)| Step::Turns { shard, count }),
    ]
}

struct Client {
    id: Option<&'static str>,
    cursor: Value,
    link: Option<Link>,
    /// Every message it was ever handed, in order.
    seen: Vec<u64>,
    /// Whether it was told that it lost something.
    told: bool,
    /// What it knows that its person has read.
    read_elsewhere: Vec<Value>,
}

struct Link {
    session: Session,
    connection: Arc<Connection>,
    pipe: Arc<Pipe>,
    /// Bytes that were looked at.
    parsed: usize,
    last: u64,
}

struct World {
    service: Arc<Service>,
    shards: Vec<Shard>,
    clients: Vec<Client>,
    connections: u64,
    broadcasts: BTreeSet<u64>,
    directs: BTreeMap<u64, &'static str>,
    read: BTreeSet<u64>,
}

impl World {
    fn new(bounds: TagBounds) -> Self {
        let tag = Tag::parse("t").unwrap();
        let mut settings = Settings::default();
        settings.set(tag.clone(), bounds);
        let mut auth = Auth::default();
        auth.protect(tag, Protectable::Send, KeyHash::parse(KEY).unwrap());
        let limits = Limits { connect: None, set: None, send: None, wrong_key: None };
        let queues: Vec<Arc<ShardQueue>> = (0..SHARDS).map(|_| Arc::default()).collect();
        let hub = Arc::new(Hub::new("e".into(), queues.clone(), settings, Room::default(), 0));
        let shards = queues
            .into_iter()
            .map(|queue| Shard::new(Arc::clone(&hub), queue, Duration::from_secs(25)));
        let shards = shards.collect();
        let service = Arc::new(Service {
            log: Box::new(MemoryLog::new(Arc::clone(&hub))),
            hub,
            policy: ArcSwap::from_pointee(Policy { auth, limits, ..Policy::default() }),
            rates: Rates::default(),
            id_key: IdKey::generate().unwrap(),
            metrics: Arc::default(),
            at_work: Arc::default(),
        });
        let clients = IDS.map(|id| Client {
            id,
            cursor: json!({"epoch": "e", "seq": 0}),
            link: None,
            seen: Vec::new(),
            told: false,
            read_elsewhere: Vec::new(),
        });
        Self {
            service,
            shards,
            clients: clients.into(),
            connections: 0,
            broadcasts: BTreeSet::new(),
            directs: BTreeMap::new(),
            read: BTreeSet::new(),
        }
    }

    fn publish(&mut self, action: &Value) -> u64 {
        let Ok(Action::Publish(publish)) = protocol::parse(&action.to_string()).action else {
            panic!("{action}")
        };
        let appending = self.service.publish(&mut Visitor::new(None), *publish, None).unwrap();
        futures_util::FutureExt::now_or_never(appending).unwrap().unwrap().seq
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Broadcast { size } => {
                let message = "x".repeat(size);
                let seq =
                    self.publish(&json!({"action": "broadcast", "tag": "t", "message": message}));
                self.broadcasts.insert(seq);
            }
            Step::Direct { to, size } => {
                let (id, message) = (IDS[to].unwrap(), "x".repeat(size));
                let seq = self.publish(&json!({
                    "action": "send", "tag": "t", "id": id, "key": KEY, "message": message
                }));
                self.directs.insert(seq, id);
            }
            Step::Set { client } => self.set(client),
            Step::Read { client, only } => self.read(client, only),
            Step::Break { client } => self.break_off(client),
            Step::Room { client, bytes } => self.room(client, bytes),
            Step::Turns { shard, count } => self.turns(shard, count),
        }
    }

    fn turns(&mut self, shard: usize, count: usize) {
        let shard = &mut self.shards[shard];
        let mut batch = VecDeque::new();
        for number in shard.queue.take(&mut batch) {
            shard.go_on(number);
        }
        batch.drain(..).for_each(|work| shard.sort_in(work));
        for _ in 0..count {
            if !shard.serve_next_tag() {
                break;
            }
        }
    }

    fn set(&mut self, index: usize) {
        self.connections += 1;
        let number = self.connections;
        self.look(index);
        let client = &mut self.clients[index];
        let link = client.link.get_or_insert_with(|| {
            let pipe = Pipe::with_room(100_000);
            let outbox = Outbox::new(Arc::<Pipe>::clone(&pipe), Arc::default());
            let connection = Arc::new(Connection::new(number, number as usize % SHARDS, outbox));
            let session = Session::new(
                Arc::clone(&self.service),
                Arc::clone(&connection),
                Visitor::new(None),
            );
            Link { session, connection, pipe, parsed: 0, last: 0 }
        });
        link.session.on_text(
            &json!({"action": "set", "tag": "t", "id": client.id, "since": client.cursor})
                .to_string(),
        );
    }

    fn read(&mut self, index: usize, only: bool) {
        self.look(index);
        let client = &mut self.clients[index];
        let (Some(link), Some(id)) = (&mut client.link, client.id) else { return };
        let Some(last) = client.seen.iter().rev().find(|seq| self.directs.get(seq) == Some(&id))
        else {
            return;
        };
        let mark = if only { json!([last]) } else { json!(last) };
        let field = if only { "only" } else { "seq" };
        link.session.on_text(&json!({"action": "read", "tag": "t", field: mark}).to_string());
        if link.session.may_be_idle() {
            let theirs = self
                .directs
                .iter()
                .filter(|(seq, of)| **of == id && if only { *seq == last } else { *seq <= last });
            self.read.extend(theirs.map(|(seq, _)| *seq));
        }
    }

    fn break_off(&mut self, index: usize) {
        self.look(index);
        self.clients[index].link = None;
    }

    fn room(&mut self, index: usize, bytes: usize) {
        let Some(link) = &mut self.clients[index].link else { return };
        link.pipe.make_room(bytes);
        // As the socket's task does when the socket is writable.
        link.connection.outbox().flush();
        if link.connection.outbox().take_drained() {
            link.session.drained();
        }
        self.look(index);
    }

    /// The client reads what has come.
    fn look(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(link) = &mut client.link else { return };
        let taken = link.pipe.taken_after(link.parsed);
        let mut rest = &taken[..];
        while let Some(end) = end_of_whole(rest) {
            let text = crate::frame::text_of(&rest[..end]).to_owned();
            rest = &rest[end..];
            link.parsed += end;
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
            if let Some(seq) = frame["seq"].as_u64()
                && (frame["event"] == "live" || frame.get("message").is_some())
            {
                assert!(frame["event"] == "live" || seq > link.last, "in order: {frame}");
                assert!(seq >= link.last, "in order: {frame} after {}", link.last);
                link.last = seq;
                let so_far = client.cursor["seq"].as_u64().unwrap();
                client.cursor["seq"] = seq.max(so_far).into();
                if frame.get("message").is_some() {
                    client.seen.push(seq);
                }
            }
            client.told |= frame["event"] == "gap" || frame["recovered"] == json!(false);
            if frame["event"] == "read" {
                client.read_elsewhere.push(frame);
            }
        }
        if link.connection.outbox().close_code().is_some() {
            client.link = None;
        }
    }

    /// Everyone comes back and takes everything.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "never done");
            let before: usize = self.clients.iter().map(|client| client.seen.len()).sum();
            for index in 0..CLIENTS {
                if self.clients[index].link.is_none() {
                    self.set(index);
                }
                self.room(index, 1 << 30);
            }
            (0..SHARDS).for_each(|shard| self.turns(shard, usize::MAX));
            for index in 0..CLIENTS {
                self.room(index, 1 << 30);
            }
            let after: usize = self.clients.iter().map(|client| client.seen.len()).sum();
            let idle = self.shards.iter().all(|shard| shard.rotation.is_empty());
            if before == after && idle && self.clients.iter().all(|client| client.link.is_some()) {
                return;
            }
        }
    }

    fn judge(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            let seen: BTreeSet<u64> = client.seen.iter().copied().collect();
            assert_eq!(seen.len(), client.seen.len(), "client {index}: doubled: {:?}", client.seen);
            let theirs = self.directs.iter().filter(|(_, of)| client.id == Some(**of));
            let wanted: BTreeSet<u64> =
                self.broadcasts.iter().copied().chain(theirs.map(|(seq, _)| *seq)).collect();
            assert!(seen.is_subset(&wanted), "client {index} got what is not its own");
            let missing: Vec<u64> = wanted.difference(&seen).copied().collect();
            let lost: Vec<&u64> = missing.iter().filter(|seq| !self.read.contains(seq)).collect();
            assert!(lost.is_empty() || client.told, "client {index} lost {lost:?} untold");
            assert!(!client.told || !missing.is_empty(), "client {index} was told of no loss");
        }
    }
}

/// Where the first frame ends, if it is all there.
fn end_of_whole(bytes: &[u8]) -> Option<usize> {
    let length = match bytes.get(1)? & 127 {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        127 => 10 + usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        short => 2 + usize::from(short),
    };
    (bytes.len() >= length).then_some(length)
}

fn play(bounds: TagBounds, steps: Vec<Step>) -> World {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let mut world = World::new(bounds);
    steps.into_iter().for_each(|step| world.take(step));
    world.settle();
    world.judge();
    world
}

fn bounds(count: usize) -> TagBounds {
    let bounds = Bounds { count, age: Duration::from_secs(3600), bytes: 1 << 30 };
    TagBounds { ring: bounds, inbox: bounds }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn everyone_sees_everything_once_and_in_order(steps in prop::collection::vec(step(), 1..200)) {
        let world = play(bounds(10_000), steps);
        for client in &world.clients {
            prop_assert!(!client.told, "nothing was lost");
        }
    }

    #[test]
    fn who_lost_something_is_told_and_nobody_else(
        steps in prop::collection::vec(step(), 1..200),
        count in 0..12_usize,
    ) {
        play(bounds(count), steps);
    }
}
