//! Counts of several servers, as one of them adds them up.

use super::*;

const ME: u64 = 1;

fn applied(seq: u64, clients: u64) -> Appended {
    Ok(Applied { seq, clients, stored: false, duplicate: false, partial: false })
}

fn hear(peers: &Peers, server: u64, head: u64, counts: &[(u64, u64)]) {
    let counts = counts.to_vec();
    peers.hear(&Report { server, leaves: false, head, counts }.encode());
}

/// The clients that a sender was told of, and whether that is all.
fn told(outcome: &mut oneshot::Receiver<Appended>) -> Option<(u64, bool)> {
    outcome.try_recv().ok().map(|outcome| {
        let applied = outcome.unwrap();
        (applied.clients, applied.partial)
    })
}

#[tokio::test(start_paused = true)]
async fn alone_a_sender_is_answered_at_once() {
    let peers = Peers::new(ME);
    let (answer, mut outcome) = oneshot::channel();
    peers.applied(1, applied(1, 3), Some(answer));
    assert_eq!(told(&mut outcome), Some((3, false)));
    // One's own reports come back too.
    hear(&peers, ME, 9, &[(1, 5)]);
    assert_eq!(peers.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn every_living_server_is_waited_for() {
    let peers = Peers::new(ME);
    hear(&peers, 2, 0, &[]);
    hear(&peers, 3, 0, &[]);
    let (answer, mut outcome) = oneshot::channel();
    // The second is ahead of this one.
    hear(&peers, 2, 1, &[(1, 10)]);
    peers.applied(1, applied(1, 3), Some(answer));
    assert_eq!(told(&mut outcome), None);
    hear(&peers, 3, 1, &[(1, 100)]);
    assert_eq!(told(&mut outcome), Some((113, false)));

    let (answer, mut outcome) = oneshot::channel();
    peers.applied(2, applied(2, 0), Some(answer));
    hear(&peers, 2, 2, &[]);
    assert_eq!(told(&mut outcome), None);
    peers.hear(&Report { server: 3, leaves: true, head: 1, counts: vec![] }.encode());
    assert_eq!(told(&mut outcome), Some((0, false)), "who leaves is not waited for");
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_waited_for_so_long() {
    let peers = Peers::new(ME);
    hear(&peers, 2, 0, &[]);
    let (answer, mut outcome) = oneshot::channel();
    peers.applied(1, applied(1, 3), Some(answer));
    assert_eq!(peers.look_around(Instant::now()), Some(Instant::now() + PATIENCE));
    tokio::time::advance(PATIENCE).await;
    assert_eq!(peers.look_around(Instant::now()), None);
    assert_eq!(told(&mut outcome), Some((3, true)), "partial");
    // Heard of no more, it is not waited for any longer.
    tokio::time::advance(ALIVE).await;
    peers.look_around(Instant::now());
    let (answer, mut outcome) = oneshot::channel();
    peers.applied(2, applied(2, 4), Some(answer));
    assert_eq!(told(&mut outcome), Some((4, false)));
}

#[tokio::test(start_paused = true)]
async fn counts_beyond_all_bounds_do_no_harm() {
    let peers = Peers::new(ME);
    hear(&peers, 2, 0, &[(1, u64::MAX), (1, u64::MAX)]);
    let (answer, mut outcome) = oneshot::channel();
    peers.applied(1, applied(1, 3), Some(answer));
    hear(&peers, 2, 1, &[(1, u64::MAX)]);
    assert_eq!(told(&mut outcome), Some((u64::MAX, false)));
}

#[test]
fn what_is_told_is_heard() {
    for counts in [vec![], vec![(1, 2), (u64::MAX, 3)]] {
        let report = Report { server: 7, leaves: true, head: 9, counts };
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }
    for wrong in [&b""[..], b"\x02\0", &[1; 17], &[1; 20]] {
        assert_eq!(Report::decode(wrong), None, "{wrong:?}");
    }
}
