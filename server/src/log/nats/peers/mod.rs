//! What the servers tell each other beside the log: how far each has come, and how many clients it
//! has handed each entry to.
//!
//! Whoever has appended an entry adds that up and answers its sender when every server that is alive
//! has passed the entry, or after [`PATIENCE`] with what is known by then.

mod listening;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State as Connection;
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::Connections;
use crate::entry::{Appended, Applied};
use listening::Listening;
use report::{COUNTS, Report};

/// How long a sender waits for the others' counts.
const PATIENCE: Duration = Duration::from_millis(200);
/// Reports are this far apart at least: what comes in between goes together.
const BATCH: Duration = Duration::from_millis(5);
/// And this far at most.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long NATS may take to take one.
const TELLING: Duration = Duration::from_millis(50);
/// One that was not heard for so long is not waited for.
const ALIVE: Duration = Duration::from_secs(2);
/// But for so long nobody claims to know how many clients it has.
const MISSED: Duration = Duration::from_secs(60);
/// Servers of another epoch are remembered for so long.
const ELSEWHERE: Duration = Duration::from_secs(10);
/// How long the introduction takes at most if nothing is wrong.
const INTRODUCED: Duration = Duration::from_secs(10);
/// The most counts that are kept for entries that are yet to come.
const EARLY: usize = 64 * 1024;
/// The most servers that are told apart.
const SERVERS: usize = 1_024;

/// The other servers, as far as they have been heard.
#[derive(Debug)]
pub(super) struct Peers {
    /// This server's number.
    me: u64,
    /// The lifetime of the log that it follows.
    epoch: u64,
    connections: Connections,
    state: Mutex<PeersState>,
    /// The last entry that any of the others has ever applied: looked at for every entry.
    furthest: AtomicU64,
    /// There is something to report.
    changed: Notify,
}

#[derive(Debug, Default)]
struct PeersState {
    listening: Option<Listening>,
    /// Whether this server has clients or soon will: before, nobody needs to wait for it.
    takes_part: bool,
    others: HashMap<u64, Other>,
    /// Those that were heard, and have fallen silent without taking leave.
    silent: HashMap<u64, Other>,
    /// When a server was heard that follows a log of another epoch.
    elsewhere: Option<Instant>,
    /// The last entry that this server has applied.
    head: u64,
    /// Counts of entries that this server has not applied yet.
    early: BTreeMap<u64, u64>,
    /// Some counts of entries up to this one were missed.
    missed_through: u64,
    waiting: BTreeMap<u64, PendingCount>,
    /// What the others have not been told.
    counts: Vec<(u64, u64)>,
    /// The number of the last report, which is one more than that of the one before unless something
    /// could not be told.
    number: u64,
}

#[derive(Debug)]
struct Other {
    head: u64,
    heard: Instant,
    /// Of its last report.
    number: u64,
}

/// An entry of which not every count is in.
#[derive(Debug)]
struct PendingCount {
    applied: Applied,
    answer: oneshot::Sender<Appended>,
    until: Instant,
}

impl Peers {
    pub(super) fn new(me: u64, epoch: u64, connections: Connections) -> Self {
        Self {
            me,
            epoch,
            connections,
            state: Mutex::default(),
            furthest: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    /// How many others are alive.
    pub(super) fn alive(&self) -> usize {
        self.state.lock().others.len()
    }

    /// The last entry that any of the others has applied.
    pub(super) fn furthest(&self) -> u64 {
        self.furthest.load(Ordering::Relaxed)
    }

    /// Whether servers that follow a log of another epoch were heard lately: then this server, or
    /// they, follow one that is not the stream any more.
    pub(super) fn other_epoch(&self) -> bool {
        self.state.lock().elsewhere.is_some_and(|heard| heard.elapsed() < ELSEWHERE)
    }

    /// Whether nobody waits for others' counts.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// Ends when the others know this server, and it them. To be awaited before it takes clients.
    /// Cancel safe.
    pub(super) async fn introduced(&self) {
        self.state.lock().takes_part = true;
        self.changed.notify_one();
        let settled = async {
            while !self.is_settled(&self.state.lock()) {
                // Once for every start: not worth a notification on every report.
                sleep(BATCH).await;
            }
        };
        let mut settled = pin!(settled);
        while timeout(INTRODUCED, &mut settled).await.is_err() {
            tracing::warn!(
                "what this server tells the others does not come back from NATS; it takes clients \
                 when it does. Its login must be allowed to publish and to subscribe"
            );
        }
    }

    /// Whether everyone who is alive has been heard, over the connection that there is now.
    fn is_settled(&self, state: &PeersState) -> bool {
        let connection = *self.connections.borrow();
        state.listening.as_ref().is_some_and(|listening| listening.is_settled(connection))
    }

    /// Everything that is told from now on is heard, as far as anybody can know.
    fn listen(&self) {
        let connection = *self.connections.borrow();
        let mut state = self.state.lock();
        state.listening = Some(Listening::begin(connection, state.number));
    }

    /// Notes what applying an entry came to, and answers who waits for that, if anybody does, when it
    /// is known of all servers.
    pub(super) fn applied(
        &self,
        seq: u64,
        appended: Appended,
        answer: Option<oneshot::Sender<Appended>>,
    ) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.head = seq;
        let mut elsewhere = 0;
        while let Some(first) = state.early.first_entry()
            && *first.key() <= seq
        {
            let (of, count) = first.remove_entry();
            elsewhere += if of == seq { count } else { 0 };
        }
        let clients = appended.as_ref().map_or(0, |applied| applied.clients);
        // Those who are silent may hear it all the same.
        let is_whole = self.is_settled(state) && state.silent.is_empty();
        let alone = state.others.is_empty();
        if !(alone && is_whole) && clients > 0 {
            state.tell(seq, clients);
        }
        let Some(answer) = answer else {
            drop(guard);
            return self.changed.notify_one();
        };
        let partial = !is_whole || seq <= state.missed_through;
        let appended = appended.map(|applied| Applied { partial, ..applied });
        match appended {
            Ok(applied) if !alone => {
                let clients = applied.clients.saturating_add(elsewhere);
                let applied = Applied { clients, ..applied };
                let until = Instant::now() + PATIENCE;
                state.waiting.insert(seq, PendingCount { applied, answer, until });
                state.answer_those_complete();
            }
            appended => {
                // Whoever asked may have left.
                let _ = answer.send(appended);
            }
        }
        drop(guard);
        self.changed.notify_one();
    }

    /// Takes a report of another server, or this one's own, which comes back.
    fn hear(&self, payload: &[u8]) {
        let Some(report) = Report::decode(payload) else { return };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Report { epoch, server, leaves, number, head, counts } = report;
        if server == self.me {
            if let Some(listening) = &mut state.listening {
                listening.echo(number);
            }
            return;
        }
        if epoch != self.epoch {
            // Its numbers are those of other entries.
            state.elsewhere = Some(Instant::now());
            return;
        }
        self.furthest.fetch_max(head, Ordering::Relaxed);
        // Of one that was silent for a while, nothing is missed if it goes on where it was.
        let before = state.silent.remove(&server).or_else(|| state.others.remove(&server));
        let (told, upto) = before.map_or((0, 0), |other| (other.number, other.head));
        if told.checked_add(1) != Some(number) {
            state.miss(upto.saturating_add(1), head);
        }
        for (seq, count) in counts {
            if let Some(waiting) = state.waiting.get_mut(&seq) {
                waiting.applied.clients = waiting.applied.clients.saturating_add(count);
            } else if seq > state.head && state.early.len() < EARLY {
                let early = state.early.entry(seq).or_default();
                *early = early.saturating_add(count);
            } else if seq > state.head {
                state.miss(seq, seq);
            }
        }
        if !leaves && state.others.len() < SERVERS {
            state.others.insert(server, Other { head, heard: Instant::now(), number });
        }
        state.answer_those_complete();
    }

    /// Gives up those who were not heard, and answers whoever has waited long enough. Answers when
    /// that is to be done next.
    fn look_around(&self, now: Instant) -> Option<Instant> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.fall_silent(now);
        state.answer_those_complete();
        while let Some(oldest) = state.waiting.first_entry()
            && oldest.get().until <= now
        {
            let PendingCount { applied, answer, .. } = oldest.remove();
            let _ = answer.send(Ok(Applied { partial: true, ..applied }));
        }
        state.waiting.first_key_value().map(|(_, oldest)| oldest.until)
    }

    /// What is to be told now.
    fn report(&self, leaves: bool) -> Bytes {
        let mut state = self.state.lock();
        let counts = std::mem::take(&mut state.counts);
        state.number += 1;
        let (epoch, server, number, head) = (self.epoch, self.me, state.number, state.head);
        Report { epoch, server, leaves, number, head, counts }.encode()
    }

    /// Tells and hears until `stop`.
    pub(super) async fn run(
        &self,
        client: Client,
        mut connections: Connections,
        subject: String,
        stop: CancellationToken,
    ) -> Result<(), async_nats::SubscribeError> {
        let mut reports = client.subscribe(subject.clone()).await?;
        // What is behind this on the connection comes after the subscription.
        let _ = stop.run_until_cancelled(client.flush()).await;
        self.listen();
        let tell = async |leaves: bool| {
            let takes_part = self.state.lock().takes_part;
            if takes_part && client.connection_state() == Connection::Connected {
                // What is lost is missed, since reports are numbered.
                let _ = client.publish(subject.clone(), self.report(leaves)).await;
            }
        };
        let mut told = Instant::now();
        let mut pause = HEARTBEAT;
        loop {
            let due = self.look_around(Instant::now());
            let next = told + pause;
            let wake = due.map_or(next, |due| due.min(next));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // The subscription is made again before anybody hears of the connection.
                Ok(()) = connections.changed() => {
                    self.listen();
                    // At once, since the others have not heard this server for a while.
                    pause = Duration::ZERO;
                }
                () = self.changed.notified(), if pause > BATCH => pause = BATCH,
                report = reports.next() => match report {
                    Some(report) => self.hear(&report.payload),
                    None => break,
                },
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= told + pause {
                told = Instant::now();
                pause = HEARTBEAT;
                // Whoever waits for counts is answered also while NATS takes nothing.
                let _ = timeout(TELLING, tell(false)).await;
            }
        }
        tell(true).await;
        let _ = client.flush().await;
        Ok(())
    }
}

impl PeersState {
    /// What the others are to be told of an entry, if there is room for it.
    fn tell(&mut self, seq: u64, clients: u64) {
        if self.counts.len() < COUNTS {
            self.counts.push((seq, clients));
        } else {
            // Missed, as if a report was lost.
            self.number += 1;
        }
    }

    /// Waits no more for those who were not heard, and notes that their clients are not counted.
    fn fall_silent(&mut self, now: Instant) {
        let Self { others, silent, waiting, .. } = self;
        for (server, other) in others.extract_if(|_, other| other.heard + ALIVE <= now) {
            for (_, waiting) in waiting.range_mut((Excluded(other.head), Unbounded)) {
                waiting.applied.partial = true;
            }
            // Beyond all bounds it does not matter which of them it is that makes counts partial.
            if silent.len() < SERVERS {
                silent.insert(server, other);
            }
        }
        silent.retain(|_, other| other.heard + MISSED > now);
    }

    /// Counts of these entries may never come.
    fn miss(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        for waiting in self.waiting.range_mut(first..=last) {
            waiting.1.applied.partial = true;
        }
        if last > self.head {
            self.missed_through = self.missed_through.max(last);
        }
    }

    fn answer_those_complete(&mut self) {
        let slowest = self.others.values().map(|other| other.head).min().unwrap_or(u64::MAX);
        while let Some(oldest) = self.waiting.first_entry()
            && *oldest.key() <= slowest
        {
            let PendingCount { applied, answer, .. } = oldest.remove();
            let _ = answer.send(Ok(applied));
        }
    }
}

#[cfg(test)]
mod tests;
