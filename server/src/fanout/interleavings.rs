//! Plays random interleavings of registration, replay and live delivery, and checks what each
//! client sees.
//!
//! All code between a client's text and its socket is the server's own. The test decides which
//! shard runs, how much each socket takes, and when a connection breaks.

use std::collections::{BTreeMap, BTreeSet};

use arc_swap::ArcSwap;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::*;
use crate::access::auth::{Auth, KeyHash, Scope};
use crate::access::policy::Policy;
use crate::access::rate_limit::{Limits, RateLimiter};
use crate::access::visitor::Visitor;
use crate::conn::outbox::Outbox;
use crate::conn::outbox::pipe::Pipe;
use crate::counters::Counters;
use crate::hub::RegistrationLimits;
use crate::hub::history::{HistoryBounds, Settings, TagBounds};
use crate::id::IdKey;
use crate::log::MemoryLog;
use crate::protocol::{self, Action, Protectable};
use crate::publish::Service;
use crate::ws::handler::Handler as _;
use crate::ws::session::Session;

const KEY: &str = "a-key-of-enough-length";
const CLIENTS: usize = 5;
const SHARDS: usize = 2;
/// Clients 0 and 1 are two devices of one person, client 2 is another person, and the others are
/// anonymous.
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
    /// A client connects, or registers again on its connection. If the client has a cursor, it
    /// sends it.
    Set {
        client: usize,
        last: Option<u64>,
        unread: bool,
    },
    Read {
        client: usize,
        only: bool,
    },
    Break {
        client: usize,
    },
    /// The socket of a client takes this many bytes.
    MakeRoom {
        client: usize,
        bytes: usize,
    },
    /// A shard takes the work from its queue and serves `count` turns.
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
        6 => (client(), prop::option::of(0..6_u64), prop::bool::weighted(0.3))
            .prop_map(|(client, last, unread)| Step::Set { client, last, unread }),
        2 => (client(), any::<bool>()).prop_map(|(client, only)| Step::Read { client, only }),
        2 => client().prop_map(|client| Step::Break { client }),
        8 => (client(), prop_oneof![1..2_000_usize, 1..400_000_usize])
            .prop_map(|(client, bytes)| Step::MakeRoom { client, bytes }),
        8 => (0..SHARDS, 0..4_usize).prop_map(|(shard, count)| Step::Turns { shard, count }),
    ]
}

struct Client {
    id: Option<&'static str>,
    cursor: Value,
    /// Whether the client has got a `live` event and so has a cursor.
    has_been_live: bool,
    link: Option<Link>,
    /// All messages that were new to the client, in order.
    seen: Vec<u64>,
    /// The earlier messages for which the client asked when it connected without a cursor. The
    /// client must also get every message after `owed_after`, which was the head at that time.
    owed: BTreeSet<u64>,
    owed_after: u64,
    /// Whether a loss was reported: `unrecovered` in a reply, `gap` in the middle of a replay.
    unrecovered: bool,
    gap: bool,
    /// Whether the client has asked again for messages that it had seen, which may be lost by now.
    looked_back: bool,
    /// The `read` events that the client got.
    read_elsewhere: Vec<Value>,
}

struct Link {
    session: Session,
    connection: Arc<Connection>,
    pipe: Arc<Pipe>,
    /// How many bytes of the pipe the test has parsed.
    parsed: usize,
    /// The last seq that came on this connection.
    last: u64,
    /// The seqs of all messages that came on this connection.
    handed: BTreeSet<u64>,
    /// The cursors with which the client registered on this connection.
    since: Vec<Option<u64>>,
    /// How often a message came whose seq is below the last one.
    turned_back: usize,
    /// The messages of the inbox that are still to come, if the client asked for its whole inbox
    /// when it registered first.
    inbox: Option<BTreeSet<u64>>,
    gap: bool,
}

struct World {
    service: Arc<Service>,
    shards: Vec<Shard>,
    clients: Vec<Client>,
    connections: u64,
    /// The most messages that a ring or an inbox may hold.
    count: usize,
    inboxes: BTreeMap<&'static str, BTreeSet<u64>>,
    broadcasts: BTreeSet<u64>,
    directs: BTreeMap<u64, &'static str>,
    read: BTreeSet<u64>,
}

impl World {
    fn new(bounds: TagBounds, with_cursor: [bool; CLIENTS]) -> Self {
        let tag = Tag::parse("t").unwrap();
        let mut settings = Settings::default();
        settings.set(tag.clone(), bounds);
        let mut auth = Auth::open_to_all();
        auth.protect(Scope::One(tag), Protectable::Send, KeyHash::parse(KEY).unwrap()).unwrap();
        let limits = Limits { connect: None, set: None, send: None, wrong_key: None };
        let queues: Vec<Arc<DeliveryQueue>> = (0..SHARDS).map(|_| Arc::default()).collect();
        let hub = Arc::new(Hub::new(
            "e".into(),
            queues.clone(),
            settings,
            RegistrationLimits::default(),
            0,
        ));
        let shards = queues
            .into_iter()
            .map(|queue| Shard::new(Arc::clone(&hub), queue, Duration::from_secs(25)));
        let shards = shards.collect();
        let service = Arc::new(Service {
            log: Box::new(MemoryLog::new(Arc::clone(&hub))),
            hub,
            policy: ArcSwap::from_pointee(Policy { auth, limits, ..Policy::default() }),
            rates: RateLimiter::default(),
            id_key: IdKey::generate().unwrap(),
            counters: Arc::new(Counters::new([])),
            backlog: Arc::default(),
            at_work: TaskTracker::new(),
        });
        let clients = [0, 1, 2, 3, 4].map(|index| Client {
            id: IDS[index],
            cursor: json!({"epoch": "e", "seq": 0}),
            has_been_live: with_cursor[index],
            link: None,
            seen: Vec::new(),
            owed: BTreeSet::new(),
            owed_after: 0,
            unrecovered: false,
            gap: false,
            looked_back: false,
            read_elsewhere: Vec::new(),
        });
        Self {
            service,
            shards,
            clients: clients.into(),
            connections: 0,
            count: bounds.ring.count,
            inboxes: BTreeMap::new(),
            broadcasts: BTreeSet::new(),
            directs: BTreeMap::new(),
            read: BTreeSet::new(),
        }
    }

    fn publish(&mut self, action: &Value) -> u64 {
        let Ok(Action::Publish(publish)) = protocol::parse(&action.to_string()).action else {
            panic!("{action}")
        };
        let appending = self.service.publish(&mut Visitor::new(None), *publish, |_| None).unwrap();
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
                let inbox = self.inboxes.entry(id).or_default();
                inbox.insert(seq);
                if inbox.len() > self.count {
                    inbox.pop_first();
                }
            }
            Step::Set { client, last, unread } => self.set(client, last, unread),
            Step::Read { client, only } => self.read(client, only),
            Step::Break { client } => self.break_off(client),
            Step::MakeRoom { client, bytes } => self.make_room(client, bytes),
            Step::Turns { shard, count } => self.turns(shard, count),
        }
    }

    fn turns(&mut self, shard: usize, count: usize) {
        let shard = &mut self.shards[shard];
        let mut batch = VecDeque::new();
        for number in shard.queue.take(&mut batch) {
            shard.resume(number);
        }
        batch.drain(..).for_each(|work| shard.sort_in(work));
        for _ in 0..count {
            if !shard.serve_next_tag() {
                break;
            }
        }
    }

    fn set(&mut self, index: usize, last: Option<u64>, unread: bool) {
        self.connections += 1;
        let number = self.connections;
        self.look(index);
        let client = &mut self.clients[index];
        if !client.has_been_live && client.link.is_none() {
            // The server has promised this client no earlier message. If it registers again on the
            // connection, it still gets what it asked for first.
            (client.unrecovered, client.gap) = (false, false);
            client.owed_after = self.service.hub.head();
            let last = usize::try_from(last.unwrap_or(0)).unwrap().min(self.count);
            let inbox = client.id.and_then(|id| self.inboxes.get(id)).into_iter().flatten();
            client.owed = self.broadcasts.iter().rev().take(last).chain(inbox).copied().collect();
        }
        client.looked_back |= unread || !client.has_been_live && last.is_some();
        let link = client.link.get_or_insert_with(|| {
            let pipe = Pipe::with_room(100_000);
            let outbox = Outbox::new(Arc::<Pipe>::clone(&pipe), Arc::default());
            let connection = Arc::new(Connection::new(number, number as usize % SHARDS, outbox));
            let session = Session::new(
                Arc::clone(&self.service),
                Arc::clone(&connection),
                Visitor::new(None),
            );
            Link {
                session,
                connection,
                pipe,
                parsed: 0,
                last: 0,
                handed: BTreeSet::new(),
                since: Vec::new(),
                turned_back: 0,
                inbox: None,
                gap: false,
            }
        });
        let since = client.has_been_live.then_some(&client.cursor);
        link.since.push(since.map(|since| since["seq"].as_u64().unwrap()));
        link.session.on_text(
            &json!({
                "action": "set", "tag": "t", "id": client.id, "since": since, "last": last,
                "unread": unread.then_some(true), "ref": if unread { "unread" } else { "" },
            })
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
            let theirs: Vec<u64> = theirs.map(|(seq, _)| *seq).collect();
            self.inboxes.entry(id).or_default().retain(|seq| !theirs.contains(seq));
            self.read.extend(theirs);
        }
    }

    fn break_off(&mut self, index: usize) {
        self.look(index);
        self.clients[index].link = None;
    }

    fn make_room(&mut self, index: usize, bytes: usize) {
        let Some(link) = &mut self.clients[index].link else { return };
        link.pipe.make_room(bytes);
        // The task of the connection does the same when the socket is writable.
        link.connection.outbox.flush();
        if link.connection.outbox.take_drained() {
            link.session.drained();
        }
        self.look(index);
    }

    /// The client reads the frames that have arrived.
    fn look(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(link) = &mut client.link else { return };
        let taken = link.pipe.taken_after(link.parsed);
        let mut rest = &taken[..];
        while let Some(end) = end_of_whole(rest) {
            let text = crate::conn::frame::text_of(&rest[..end]).to_owned();
            rest = &rest[end..];
            link.parsed += end;
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
            let is_message = frame.get("message").is_some();
            if let Some(seq) = frame["seq"].as_u64()
                && (frame["event"] == "live" || is_message)
            {
                if seq < link.last || is_message && seq == link.last {
                    // The client registered again and asked for messages for which it had not asked
                    // before.
                    let may = client.looked_back || link.since.contains(&None);
                    link.turned_back += 1;
                    let often = link.since.len() - 1;
                    assert!(
                        may && link.turned_back <= often,
                        "in order: {frame} after {}",
                        link.last
                    );
                }
                link.last = seq;
                let so_far = client.cursor["seq"].as_u64().unwrap();
                client.cursor["seq"] = seq.max(so_far).into();
                if is_message {
                    assert!(link.handed.insert(seq), "twice on one connection: {frame}");
                    if let Some(inbox) = &mut link.inbox {
                        inbox.remove(&seq);
                    }
                    if link.since == [None] {
                        let owed = seq > client.owed_after || client.owed.contains(&seq);
                        assert!(owed, "more than was asked for: {frame}");
                    }
                    let seen = frame["seen"] == true;
                    if let [since] = link.since[..] {
                        let before = since.is_some_and(|since| seq <= since);
                        assert_eq!(seen, before, "{frame} since {since:?}");
                    }
                    if seen {
                        assert!(client.looked_back && frame["direct"] == true, "{frame}");
                    } else if !client.seen.contains(&seq) {
                        client.seen.push(seq);
                    } else {
                        // A client without a cursor gets messages that it had before, and ignores
                        // them.
                        assert!(link.since.contains(&None), "old and not seen: {frame}");
                    }
                } else {
                    client.has_been_live = true;
                    if let Some(inbox) = link.inbox.take() {
                        let rest: Vec<_> = inbox.difference(&self.read).collect();
                        assert!(
                            rest.is_empty() || link.gap,
                            "unread and not handed over: {rest:?}"
                        );
                    }
                }
            }
            if frame["ok"] == "set" {
                let unread = frame["unread"].as_array();
                if frame["ref"] == "unread" && link.since.len() == 1 {
                    let unread = unread.into_iter().flatten();
                    link.inbox = Some(unread.map(|seq| seq.as_u64().unwrap()).collect());
                }
                client.unrecovered |= frame["recovered"] == false;
            }
            if frame["event"] == "gap" {
                (client.gap, link.gap) = (true, true);
            }
            if frame["event"] == "read" {
                client.read_elsewhere.push(frame);
            }
        }
        if link.connection.outbox.close_code().is_some() {
            client.link = None;
        }
    }

    /// All clients reconnect and read until nothing is left to deliver.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "never done");
            let before: usize = self.clients.iter().map(|client| client.seen.len()).sum();
            for index in 0..CLIENTS {
                if self.clients[index].link.is_none() {
                    self.set(index, None, false);
                }
                self.make_room(index, 1 << 30);
            }
            (0..SHARDS).for_each(|shard| self.turns(shard, usize::MAX));
            for index in 0..CLIENTS {
                self.make_room(index, 1 << 30);
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
            let all: BTreeSet<u64> =
                self.broadcasts.iter().copied().chain(theirs.map(|(seq, _)| *seq)).collect();
            assert!(seen.is_subset(&all), "client {index} got what is not its own");
            let later = all.iter().filter(|seq| **seq > client.owed_after);
            let wanted: BTreeSet<u64> = client.owed.iter().chain(later).copied().collect();
            let missing: Vec<u64> = wanted.difference(&seen).copied().collect();
            let lost: Vec<&u64> = missing.iter().filter(|seq| !self.read.contains(seq)).collect();
            let told = client.unrecovered || client.gap;
            assert!(lost.is_empty() || told, "client {index} lost {lost:?} untold");
            let once_more = client.gap && client.looked_back;
            assert!(
                !told || once_more || !missing.is_empty(),
                "client {index} was told of no loss"
            );
        }
    }
}

/// The length of the first frame, if the frame is complete.
fn end_of_whole(bytes: &[u8]) -> Option<usize> {
    let length = match bytes.get(1)? & 127 {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        127 => 10 + usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        short => 2 + usize::from(short),
    };
    (bytes.len() >= length).then_some(length)
}

fn play(bounds: TagBounds, with_cursor: [bool; CLIENTS], steps: Vec<Step>) -> World {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let mut world = World::new(bounds, with_cursor);
    steps.into_iter().for_each(|step| world.take(step));
    world.settle();
    world.judge();
    world
}

fn bounds(count: usize) -> TagBounds {
    let bounds = HistoryBounds { count, age: Duration::from_secs(3600), bytes: 1 << 30 };
    TagBounds { ring: bounds, inbox: bounds }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn everyone_sees_everything_once_and_in_order(
        steps in prop::collection::vec(step(), 1..200),
        with_cursor in any::<[bool; CLIENTS]>(),
    ) {
        let world = play(bounds(10_000), with_cursor, steps);
        for client in &world.clients {
            prop_assert!(!client.unrecovered && !client.gap, "nothing was lost");
        }
    }

    #[test]
    fn who_lost_something_is_told_and_nobody_else(
        steps in prop::collection::vec(step(), 1..200),
        with_cursor in any::<[bool; CLIENTS]>(),
        count in 0..12_usize,
    ) {
        play(bounds(count), with_cursor, steps);
    }
}
