use super::*;
use crate::clock::now_ms;
use crate::conn::outbox::pipe::Pipe;
use crate::conn::outbox::{Backlog, Outbox};
use crate::entry::{AppendContext, Entry, EntryKind};
use crate::hub::history::Settings;
use crate::hub::{Earlier, Generation, Hub, Registration, RegistrationLimits};
use crate::id::Address;
use crate::limits;
use crate::log::{Log as _, MemoryLog};
use crate::protocol::{self, Action, ErrorCode, Message, Resume};

/// A hub, a log, and a shard that the test runs turn by turn.
struct Test {
    hub: Arc<Hub>,
    log: MemoryLog<Hub>,
    shard: Shard,
}

impl Test {
    fn new() -> Self {
        let queue = Arc::new(DeliveryQueue::default());
        let queues = vec![Arc::clone(&queue)];
        let hub = Arc::new(Hub::new(
            "e".into(),
            queues,
            Settings::default(),
            RegistrationLimits::default(),
            0,
        ));
        let shard = Shard::new(Arc::clone(&hub), queue, Duration::from_secs(25));
        Self { log: MemoryLog::new(Arc::clone(&hub)), hub, shard }
    }

    fn listener(&self, number: u64, tag: &str) -> (Arc<Connection>, Registration, Arc<Pipe>) {
        self.person(number, tag, None)
    }

    fn person(
        &self,
        number: u64,
        tag: &str,
        address: Option<Address>,
    ) -> (Arc<Connection>, Registration, Arc<Pipe>) {
        let pipe = Pipe::with_room(1 << 30);
        let outbox = Outbox::new(Arc::<Pipe>::clone(&pipe), Arc::default());
        let connection = Arc::new(Connection::new(number, 0, outbox));
        let registration = Registration { tag: Tag::parse(tag).unwrap(), address };
        self.hub.register(&connection, &registration, None, &Resume::default(), 0);
        (connection, registration, pipe)
    }

    fn broadcast(&self, tag: &str, message: &str) -> Result<u64, ErrorCode> {
        let text = format!(r#"{{"action":"broadcast","tag":"{tag}","message":"{message}"}}"#);
        let Ok(Action::Publish(publish)) = protocol::parse(&text).action else { panic!("{text}") };
        let protocol::Publish { tag, message, .. } = *publish;
        self.append(tag, EntryKind::Broadcast(message))
    }

    fn append(&self, tag: Tag, body: EntryKind) -> Result<u64, ErrorCode> {
        let (expires, mid, append) = (None, None, None);
        let at = now_ms();
        let entry = Entry { tag, kind: body, at, expires, mid, append };
        let appended =
            futures_util::FutureExt::now_or_never(self.log.append(entry, AppendContext::default()))
                .unwrap();
        appended.map(|applied| applied.seq).map_err(|refusal| refusal.code)
    }

    /// Takes the work from the queue and serves `count` turns.
    fn turns(&mut self, count: usize) {
        let mut batch = VecDeque::new();
        for number in self.shard.queue.take(&mut batch) {
            self.shard.resume(number);
        }
        batch.drain(..).for_each(|work| self.shard.sort_in(work));
        for _ in 0..count {
            if !self.shard.serve_next_tag() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_is_taken_but_not_done_counts_against_the_bound() {
    let mut test = Test::new();
    let _listener = test.listener(1, "t");
    let message = "x".repeat(60_000);
    let mut accepted = 0;
    let refusal = loop {
        match test.broadcast("t", &message) {
            Ok(_) => accepted += 1,
            Err(code) => break code,
        }
        // The shard takes the work but serves no turn.
        test.turns(0);
    };
    assert_eq!(refusal, ErrorCode::Unavailable);
    let bytes = accepted * message.len();
    let most = limits::SHARD_QUEUE_BYTES;
    assert!((most - 2 * message.len()..=most + message.len()).contains(&bytes), "{bytes}");
    test.turns(usize::MAX);
    assert!(test.broadcast("t", &message).is_ok());
}

#[tokio::test]
async fn registrations_that_wait_are_bounded_too() {
    let mut test = Test::new();
    let (connection, registration, _pipe) = test.listener(1, "t");
    let mut registered = 0;
    while test.hub.admit().is_ok() {
        test.hub.register(
            &connection,
            &registration,
            Some(Earlier {
                registration: &registration,
                from: 0,
                generation: Generation::default(),
            }),
            &Resume::default(),
            0,
        );
        test.turns(0);
        registered += 1;
        assert!(registered <= limits::SHARD_QUEUE, "never refused");
    }
    test.turns(usize::MAX);
    assert!(test.hub.admit().is_ok());
}

#[tokio::test]
async fn a_large_tag_delays_no_other_by_more_than_a_slice() {
    let mut test = Test::new();
    let large: Vec<_> = (0..1_000).map(|number| test.listener(number, "large")).collect();
    let (_, _, quiet) = test.listener(5_000, "quiet");
    test.turns(usize::MAX);
    test.broadcast("large", "many").unwrap();
    test.broadcast("quiet", "one").unwrap();
    // The first turn serves one slice of the large tag, the second turn serves the other tag.
    test.turns(2);
    let has = |pipe: &Pipe, text: &str| String::from_utf8_lossy(&pipe.taken()).contains(text);
    assert!(has(&quiet, "one"));
    assert_eq!(large.iter().filter(|(_, _, pipe)| has(pipe, "many")).count(), 256);
    test.turns(usize::MAX);
    assert!(large.iter().all(|(_, _, pipe)| has(pipe, "many")));
}

/// Each write is a system call, which costs more than the rest of a delivery.
#[tokio::test]
async fn what_waits_together_reaches_each_listener_in_one_write() {
    let mut test = Test::new();
    let alice = Address::from_bytes([1; 32]);
    let mut listeners: Vec<_> = (0..600).map(|number| test.listener(number, "t").2).collect();
    listeners.push(test.person(1_000, "t", Some(alice)).2);
    listeners.push(test.person(1_001, "t", Some(alice)).2);
    test.turns(usize::MAX);
    let before = listeners[0].writes();
    assert!(listeners.iter().all(|pipe| pipe.writes() == before));
    for number in 0..16 {
        test.broadcast("t", &format!("m{number}")).unwrap();
        if number % 5 == 0 {
            let direct = EntryKind::Direct(alice, Message::kept(format!("{number}").into()));
            test.append(Tag::parse("t").unwrap(), direct).unwrap();
        }
    }
    test.turns(usize::MAX);
    for pipe in &listeners {
        assert_eq!(pipe.writes() - before, 1);
        let text = String::from_utf8_lossy(&pipe.taken()).into_owned();
        assert!((0..16).all(|number| text.contains(&format!("\"m{number}\""))), "{text}");
    }
    let hers = String::from_utf8_lossy(&listeners[601].taken()).into_owned();
    assert_eq!(hers.matches("\"direct\":true").count(), 4);

    // Four messages of 30,000 bytes exceed the 64 KiB of one write, so they take two writes.
    for _ in 0..4 {
        test.broadcast("t", &"x".repeat(30_000)).unwrap();
    }
    test.turns(usize::MAX);
    assert!(listeners.iter().all(|pipe| pipe.writes() - before == 3));
}

/// Latency is counted in turns, which do not depend on the load of the machine. A round over the
/// other listeners takes four turns at all times: while one client does not read, when that client
/// is closed, and afterwards.
#[tokio::test]
async fn one_that_never_reads_takes_no_turn_and_no_message_from_the_others() {
    let mut test = Test::new();
    let readers: Vec<_> = (0..1_000).map(|number| test.listener(number, "t").2).collect();
    test.turns(usize::MAX);
    let message = "x".repeat(30_000);
    // Counts the turns until every reader has the message in one write.
    let round = |test: &mut Test| {
        let before: Vec<_> = readers.iter().map(|pipe| (pipe.writes(), pipe.length())).collect();
        test.broadcast("t", &message).unwrap();
        let has = |(pipe, (writes, length)): (&Arc<Pipe>, &(usize, usize))| {
            pipe.writes() == writes + 1 && pipe.length() > length + message.len()
        };
        (1..100).find(|_| {
            test.turns(1);
            readers.iter().zip(&before).all(has)
        })
    };
    assert_eq!(round(&mut test), Some(4));
    let (silent, registration, pipe) = test.listener(5_000, "t");
    test.turns(usize::MAX);
    pipe.make_room(0);
    let mut rounds = 0;
    while silent.outbox.closing().is_none() {
        assert_eq!(round(&mut test), Some(4));
        rounds += 1;
        assert!(rounds < 20, "it is never closed");
    }
    assert!(rounds > 5, "so much may wait: {rounds}");
    test.hub.unregister(&silent, [(&registration, Generation::default())]);
    test.turns(usize::MAX);
    assert_eq!(round(&mut test), Some(4));
}

#[tokio::test]
async fn queued_and_done_work_is_counted() {
    let mut test = Test::new();
    let (_connection, _, pipe) = test.listener(1, "t");
    test.broadcast("t", "first").unwrap();
    test.broadcast("t", "second").unwrap();
    let progress = test.hub.progress();
    assert_eq!((progress.entries, progress.tally.deliveries), (3, 0));
    let bytes = progress.bytes;
    test.turns(2);
    let progress = test.hub.progress();
    assert_eq!((progress.entries, progress.bytes, progress.tally.deliveries), (0, 0, 2));
    assert_eq!(progress.tally.bytes, bytes as u64);
    assert!(pipe.taken().len() >= bytes);

    // A frame for a broken connection does not count as delivered.
    pipe.break_off();
    test.broadcast("t", "third").unwrap();
    test.turns(1);
    assert_eq!(test.hub.progress().tally.deliveries, 2);
}

/// The backlog is full, so the replay of a client waits; the client is not closed as a slow reader.
#[tokio::test(start_paused = true)]
async fn a_replay_waits_while_too_much_waits_for_others() {
    let mut test = Test::new();
    let message = "x".repeat(1_000);
    for _ in 0..50 {
        test.broadcast("t", &message).unwrap();
    }
    let backlog = Arc::new(Backlog::new(limits::OUTBOX));
    // `others` stands for many outboxes, whose bytes fill the backlog.
    let others = Outbox::new(Pipe::with_room(0), Arc::clone(&backlog));
    others.push_piece(&vec![0; limits::OUTBOX - 64].into());

    let pipe = Pipe::with_room(3_000);
    let outbox = Outbox::new(Arc::<Pipe>::clone(&pipe), Arc::clone(&backlog));
    let connection = Arc::new(Connection::new(1, 0, outbox));
    let registration = Registration { tag: Tag::parse("t").unwrap(), address: None };
    let all = Resume { last: Some(100), ..Resume::default() };
    test.hub.register(&connection, &registration, None, &all, 0);
    let messages = |pipe: &Pipe| String::from_utf8_lossy(&pipe.taken()).matches("xx\"").count();
    test.turns(usize::MAX);
    assert_eq!((messages(&pipe), connection.outbox.closing()), (0, None));
    // A retry changes nothing while the backlog is full.
    test.shard.retry_stalled();
    test.turns(usize::MAX);
    assert_eq!((messages(&pipe), connection.outbox.closing()), (0, None));

    drop(others);
    test.shard.retry_stalled();
    test.turns(usize::MAX);
    assert!((1..4).contains(&messages(&pipe)), "as much as the socket takes");
    for _ in 0..50 {
        pipe.make_room(3_000);
        connection.outbox.flush();
        if connection.outbox.take_drained() {
            test.hub.drained(&connection);
        }
        test.shard.retry_stalled();
        test.turns(usize::MAX);
    }
    assert_eq!((messages(&pipe), connection.outbox.closing()), (50, None));
}
