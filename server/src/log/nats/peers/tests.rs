//! Tests how one server sums up the counts of several servers.

use tokio::sync::{oneshot, watch};

use super::listening::{ECHO, SETTLED};
use super::*;
use crate::log::answer::OpenAppends;

const ME: u64 = 1;
const EPOCH: u64 = 77;

fn applied(seq: u64, clients: u64) -> Appended {
    Ok(Applied { seq, clients, stored: false, duplicate: false, partial: false })
}

/// Creates `Peers` that have listened for long enough to know all live servers.
async fn settled() -> (Peers, watch::Sender<u64>) {
    let (connection, connections) = watch::channel(1);
    let peers = Peers::new(ME, EPOCH, connections);
    peers.listen();
    echo(&peers);
    tokio::time::advance(SETTLED).await;
    (peers, connection)
}

/// Sends a report of this server, and receives it back.
fn echo(peers: &Peers) {
    peers.hear(&peers.report(false));
}

/// Lets time pass, during which the reports of this server come back.
async fn pass(peers: &Peers, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        tokio::time::advance(HEARTBEAT.min(until - Instant::now())).await;
        echo(peers);
        peers.look_around(Instant::now());
    }
}

/// Receives the next report of the given server.
fn hear(peers: &Peers, server: u64, head: u64, counts: &[(u64, u64)]) {
    let number = next_of(peers, server);
    hear_number(peers, number, server, head, counts);
}

fn next_of(peers: &Peers, server: u64) -> u64 {
    let state = peers.state.lock();
    let before = state.others.get(&server).or_else(|| state.silent.get(&server));
    before.map_or(0, |other| other.number) + 1
}

fn hear_number(peers: &Peers, number: u64, server: u64, head: u64, counts: &[(u64, u64)]) {
    peers.hear(&report(number, server, head, counts).encode());
}

fn report(number: u64, server: u64, head: u64, counts: &[(u64, u64)]) -> Report {
    Report { epoch: EPOCH, server, leaves: false, number, head, counts: counts.to_vec() }
}

fn takes_leave(peers: &Peers, server: u64) {
    let last = report(next_of(peers, server), server, 1, &[]);
    peers.hear(&Report { leaves: true, ..last }.encode());
}

/// Applies an entry whose sender waits for the answer of this server.
fn asked(peers: &Peers, seq: u64, clients: u64) -> oneshot::Receiver<Appended> {
    let (answer, outcome) = OpenAppends::default().begin();
    peers.applied(seq, applied(seq, clients), Some(answer));
    outcome
}

/// The count of clients in the reply to a sender, and whether the count is partial.
fn told(outcome: &mut oneshot::Receiver<Appended>) -> Option<(u64, bool)> {
    outcome.try_recv().ok().map(|outcome| {
        let applied = outcome.unwrap();
        (applied.clients, applied.partial)
    })
}

#[tokio::test(start_paused = true)]
async fn alone_a_sender_is_answered_at_once() {
    let (peers, _connection) = settled().await;
    let mut outcome = asked(&peers, 1, 3);
    assert_eq!(told(&mut outcome), Some((3, false)));
    // The reports of this server come back too; their counts are not added.
    hear(&peers, ME, 9, &[(1, 5)]);
    assert_eq!(peers.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_living_server_is_waited_for() {
    let (peers, _connection) = settled().await;
    hear(&peers, 2, 0, &[]);
    hear(&peers, 3, 0, &[]);
    // Server 2 is ahead of this server.
    hear(&peers, 2, 1, &[(1, 10)]);
    let mut outcome = asked(&peers, 1, 3);
    assert_eq!(told(&mut outcome), None);
    hear(&peers, 3, 1, &[(1, 100)]);
    assert_eq!(told(&mut outcome), Some((113, false)));

    let mut outcome = asked(&peers, 2, 0);
    hear(&peers, 2, 2, &[]);
    assert_eq!(told(&mut outcome), None);
    takes_leave(&peers, 3);
    assert_eq!(told(&mut outcome), Some((0, false)), "who leaves is not waited for");
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_waited_for_so_long() {
    let (peers, _connection) = settled().await;
    hear(&peers, 2, 0, &[]);
    let mut outcome = asked(&peers, 1, 3);
    assert!(!peers.is_idle(), "somebody waits for his answer");
    assert_eq!(peers.look_around(Instant::now()), Some(Instant::now() + PATIENCE));
    tokio::time::advance(PATIENCE).await;
    assert_eq!(peers.look_around(Instant::now()), None);
    assert_eq!(told(&mut outcome), Some((3, true)), "partial");
    assert!(peers.is_idle());
}

/// A silent server may still have clients.
#[tokio::test(start_paused = true)]
async fn who_has_fallen_silent_makes_counts_partial_for_a_minute() {
    let (peers, _connection) = settled().await;
    hear(&peers, 2, 0, &[]);
    pass(&peers, ALIVE - Duration::from_millis(1)).await;
    let mut outcome = asked(&peers, 1, 3);
    assert_eq!(told(&mut outcome), None);
    pass(&peers, Duration::from_millis(1)).await;
    assert_eq!(told(&mut outcome), Some((3, true)), "waited for when it was given up");
    assert_eq!(peers.alive(), 0);
    assert_eq!(told(&mut asked(&peers, 2, 4)), Some((4, true)), "not waited for");
    pass(&peers, MISSED - ALIVE - Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 3, 4)), Some((4, true)));
    pass(&peers, Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 4, 4)), Some((4, false)), "nobody remembers it");
}

#[tokio::test(start_paused = true)]
async fn who_was_silent_is_known_when_it_is_heard_again_or_leaves() {
    let (peers, _connection) = settled().await;
    hear(&peers, 2, 0, &[]);
    pass(&peers, ALIVE).await;
    peers.report(false);
    assert_eq!(told(&mut asked(&peers, 1, 4)), Some((4, true)));
    let told_of = Report::decode(&peers.report(false)).unwrap().counts;
    assert_eq!(told_of, [(1, 4)], "it may hear that");
    // The report numbers of server 2 continue, so no report was lost.
    let mut outcome = asked(&peers, 2, 4);
    assert_eq!(told(&mut outcome), Some((4, true)));
    hear(&peers, 2, 1, &[(1, 5)]);
    let mut outcome = asked(&peers, 3, 4);
    hear(&peers, 2, 3, &[(2, 5), (3, 6)]);
    assert_eq!(told(&mut outcome), Some((10, false)));

    pass(&peers, ALIVE).await;
    assert_eq!(told(&mut asked(&peers, 4, 4)), Some((4, true)));
    takes_leave(&peers, 2);
    assert_eq!(told(&mut asked(&peers, 5, 4)), Some((4, false)));
}

#[tokio::test(start_paused = true)]
async fn those_who_are_silent_are_bounded() {
    let (peers, _connection) = settled().await;
    for round in 0..2 {
        for server in 0..SERVERS as u64 {
            hear(&peers, 2 + round * SERVERS as u64 + server, 0, &[]);
        }
        pass(&peers, ALIVE).await;
        let state = peers.state.lock();
        assert_eq!((state.others.len(), state.silent.len()), (0, SERVERS));
    }
}

/// After a stall, the other servers may take this server for silent, and it does not know that.
#[tokio::test(start_paused = true)]
async fn who_does_not_hear_itself_knows_a_part_only() {
    let (peers, _connection) = settled().await;
    tokio::time::advance(ECHO - SETTLED - Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 1, 3)), Some((3, false)));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 2, 3)), Some((3, true)));
    // Reports come back again, but this server has not yet heard every live server.
    echo(&peers);
    pass(&peers, SETTLED - Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 3, 3)), Some((3, true)));
    pass(&peers, Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 4, 3)), Some((3, false)));
}

#[tokio::test(start_paused = true)]
async fn servers_of_another_epoch_are_not_counted_and_noted() {
    let (peers, _connection) = settled().await;
    assert!(!peers.other_epoch());
    let stranger = Report { epoch: EPOCH + 1, ..report(1, 2, 9, &[(1, 5)]) };
    peers.hear(&stranger.encode());
    assert!(peers.other_epoch());
    assert_eq!((peers.alive(), peers.furthest()), (0, 0));
    assert_eq!(told(&mut asked(&peers, 1, 3)), Some((3, false)));
    tokio::time::advance(ELSEWHERE - Duration::from_millis(1)).await;
    assert!(peers.other_epoch());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!peers.other_epoch());
    hear(&peers, 3, 1, &[]);
    echo(&peers);
    assert!(!peers.other_epoch());
}

#[tokio::test(start_paused = true)]
async fn counts_beyond_all_bounds_do_no_harm() {
    let (peers, _connection) = settled().await;
    hear(&peers, 2, 0, &[(1, u64::MAX), (1, u64::MAX)]);
    let mut outcome = asked(&peers, 1, 3);
    hear(&peers, 2, 1, &[(1, u64::MAX)]);
    assert_eq!(told(&mut outcome), Some((u64::MAX, false)));
}

/// The number of clients at a server that was not heard yet is unknown.
#[tokio::test(start_paused = true)]
async fn who_has_just_begun_to_listen_knows_a_part_only() {
    let (connection, connections) = watch::channel(1);
    let peers = Peers::new(ME, EPOCH, connections);
    assert_eq!(told(&mut asked(&peers, 1, 3)), Some((3, true)));
    peers.listen();
    tokio::time::advance(SETTLED).await;
    assert_eq!(told(&mut asked(&peers, 2, 3)), Some((3, true)), "it has not heard itself");
    echo(&peers);
    tokio::time::advance(SETTLED - Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 3, 3)), Some((3, true)));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(told(&mut asked(&peers, 4, 3)), Some((3, false)));
    // The connection is new, and no server has been heard over it.
    let before = peers.report(false);
    connection.send_replace(2);
    assert_eq!(told(&mut asked(&peers, 5, 3)), Some((3, true)));
    peers.listen();
    // A report that was sent over the previous connection does not count.
    peers.hear(&before);
    hear(&peers, 2, 6, &[(6, 1)]);
    tokio::time::advance(SETTLED).await;
    assert_eq!(told(&mut asked(&peers, 6, 3)), Some((4, true)));
    echo(&peers);
    tokio::time::advance(SETTLED).await;
    assert_eq!(told(&mut asked(&peers, 7, 3)), None);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_got_lost_is_missed() {
    let (peers, _connection) = settled().await;
    hear(&peers, 2, 0, &[]);
    let mut outcome = asked(&peers, 1, 3);
    hear_number(&peers, 3, 2, 2, &[(2, 4)]);
    assert_eq!(told(&mut outcome), Some((3, true)));
    assert_eq!(told(&mut asked(&peers, 2, 1)), Some((5, true)), "that of the second may be more");
    let mut outcome = asked(&peers, 3, 1);
    hear(&peers, 2, 3, &[(3, 2)]);
    assert_eq!(told(&mut outcome), Some((3, false)), "none is missing from here on");
    // Server 3 is heard for the first time, but this is not its first report.
    let mut outcome = asked(&peers, 4, 1);
    hear_number(&peers, 8, 3, 4, &[(4, 2)]);
    hear(&peers, 2, 4, &[]);
    assert_eq!(told(&mut outcome), Some((3, true)));
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_missed() {
    let (peers, _connection) = settled().await;
    hear(&peers, 2, 0, &[]);
    let numbers = |peers: &Peers| Report::decode(&peers.report(false)).unwrap().number;
    let first = numbers(&peers);
    for seq in 1..=COUNTS as u64 {
        peers.applied(seq, applied(seq, 1), None);
    }
    assert_eq!(numbers(&peers), first + 1);
    for seq in 0..=COUNTS as u64 {
        let seq = COUNTS as u64 + 1 + seq;
        peers.applied(seq, applied(seq, 1), None);
    }
    assert_eq!(numbers(&peers), first + 3);
    // The number of stored counts for entries that are far ahead is limited too.
    let head = peers.state.lock().head;
    let counts: Vec<_> = (1..=EARLY as u64 + 1).map(|more| (head + more, 1)).collect();
    for counts in counts.chunks(COUNTS) {
        hear(&peers, 2, counts.last().unwrap().0, counts);
    }
    assert_eq!(told(&mut asked(&peers, head + 1, 1)), Some((2, true)));
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_part_says_nothing_and_takes_part_when_known() {
    let (connection, connections) = watch::channel(1);
    let peers = Peers::new(ME, EPOCH, connections);
    peers.listen();
    let is_settled = async || timeout(2 * SETTLED, peers.settled()).await.is_ok();
    assert!(!is_settled().await, "it has said nothing");
    let first = peers.report(false);
    assert!(!is_settled().await, "nobody can have heard that yet");
    connection.send_replace(2);
    peers.hear(&first);
    assert!(!is_settled().await, "nor heard anybody over this connection");
    peers.listen();
    echo(&peers);
    assert!(is_settled().await);
}

#[test]
fn what_is_told_is_heard() {
    for counts in [vec![], vec![(1, 2), (u64::MAX, 3)]] {
        let report = Report { epoch: 3, server: 7, leaves: true, number: 5, head: 9, counts };
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }
    for wrong in [&b""[..], b"\x01\0", b"\x02\0", &[1; 34], &[2; 33], &[2; 36]] {
        assert_eq!(Report::decode(wrong), None, "{wrong:?}");
    }
}
