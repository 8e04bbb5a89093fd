//! The reports that servers send each other beside the stream. A report contains the number of the
//! last entry that the server has applied, and to how many clients it has delivered each entry.
//!
//! The server that has appended an entry sums up these counts. It answers the sender when every
//! live server has applied the entry, or after [`PATIENCE`] with the counts so far.

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
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connect::Connections;
use crate::entry::{Appended, Applied};
use crate::log::answer::AppendAnswer;
use listening::Listening;
use report::{COUNTS, Report};

/// How long a sender waits for the counts of the other servers.
const PATIENCE: Duration = Duration::from_millis(200);
/// The shortest time between two reports. Counts that come in between are reported together.
const BATCH: Duration = Duration::from_millis(5);
/// The longest time between two reports.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long NATS may take to accept a report.
const TELLING: Duration = Duration::from_millis(50);
/// Appends do not wait for the counts of a server that was silent for this time.
const ALIVE: Duration = Duration::from_secs(2);
/// How long after its last report a silent server makes all counts partial, because it may still
/// have clients.
const MISSED: Duration = Duration::from_secs(60);
/// How long the report of a server with another epoch is remembered.
const ELSEWHERE: Duration = Duration::from_secs(10);
/// If a starting server needs longer than this to hear the other servers, it logs a warning.
const SETTLE_WARNING: Duration = Duration::from_secs(10);
/// How many counts are kept for entries that this server has not applied yet.
const EARLY: usize = 64 * 1024;
/// How many silent servers are remembered, and how many live ones.
const SERVERS: usize = 1_024;

/// The other servers, as their reports describe them.
#[derive(Debug)]
pub(super) struct Peers {
    /// The random number of this server.
    me: u64,
    /// The epoch of the log that this server follows.
    epoch: u64,
    connections: Connections,
    state: Mutex<PeersState>,
    /// The number of the last entry that any other server has applied. It is read for every entry,
    /// so it is not under the lock.
    furthest: AtomicU64,
    /// Wakes the task that reports.
    changed: Notify,
    /// Wakes the tasks that wait until a report of this server has come back.
    heard: Notify,
}

#[derive(Debug, Default)]
struct PeersState {
    listening: Option<Listening>,
    /// Whether this server has clients or soon will have some. Until then it sends no reports, and
    /// no other server needs to wait for its counts.
    takes_part: bool,
    others: HashMap<u64, Other>,
    /// Servers that fell silent without a last report.
    silent: HashMap<u64, Other>,
    /// The time at which a server with another epoch last reported.
    elsewhere: Option<Instant>,
    /// The number of the last entry that this server has applied.
    head: u64,
    /// Sums of the counts for entries that this server has not applied yet, by entry number.
    early: BTreeMap<u64, u64>,
    /// Counts for entries up to this number may be missing.
    missed_through: u64,
    waiting: BTreeMap<u64, PendingCount>,
    /// Entry numbers with counts that this server has not reported yet.
    counts: Vec<(u64, u64)>,
    /// The number of the last report. If a count could not be reported, one number is skipped.
    number: u64,
}

#[derive(Debug)]
struct Other {
    head: u64,
    heard: Instant,
    /// The number of the server's last report.
    number: u64,
}

/// An entry whose sender waits for the counts of other servers.
#[derive(Debug)]
struct PendingCount {
    applied: Applied,
    answer: AppendAnswer,
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
            heard: Notify::new(),
        }
    }

    /// The number of other servers that are alive.
    pub(super) fn alive(&self) -> usize {
        self.state.lock().others.len()
    }

    /// The number of the last entry that any other server has applied.
    pub(super) fn furthest(&self) -> u64 {
        self.furthest.load(Ordering::Relaxed)
    }

    /// Whether servers with another epoch have reported lately. In this case they or this server
    /// follow a stream that no longer exists.
    pub(super) fn other_epoch(&self) -> bool {
        self.state.lock().elsewhere.is_some_and(|heard| heard.elapsed() < ELSEWHERE)
    }

    /// Whether no sender waits for counts.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// Returns when this server and the other servers know each other. It must be awaited before
    /// this server takes clients. Cancel safe.
    pub(super) async fn settled(&self) {
        self.state.lock().takes_part = true;
        self.changed.notify_one();
        let settled = async {
            loop {
                let heard = self.heard.notified();
                let settles = {
                    let state = self.state.lock();
                    if self.is_settled(&state) {
                        return;
                    }
                    state.listening.as_ref().and_then(Listening::settles)
                };
                match settles.filter(|settles| *settles > Instant::now()) {
                    Some(settles) => drop(timeout_at(settles, heard).await),
                    None => heard.await,
                }
            }
        };
        let mut settled = pin!(settled);
        while timeout(SETTLE_WARNING, &mut settled).await.is_err() {
            tracing::warn!(
                "this server does not receive its own reports from NATS and accepts no clients \
                 until it does; allow its NATS user to publish and to subscribe"
            );
        }
    }

    /// Whether this server has heard every live server over the present connection.
    fn is_settled(&self, state: &PeersState) -> bool {
        let connection = *self.connections.borrow();
        state.listening.as_ref().is_some_and(|listening| listening.is_settled(connection))
    }

    /// Starts to listen over the present connection. Every later report is heard.
    fn listen(&self) {
        let connection = *self.connections.borrow();
        let mut state = self.state.lock();
        state.listening = Some(Listening::begin(connection, state.number));
    }

    /// Notes the effect of an entry on this server. Sends `answer` when the effect on all servers
    /// is known.
    pub(super) fn applied(&self, seq: u64, appended: Appended, answer: Option<AppendAnswer>) {
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
        // Silent servers may still deliver the entry.
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
                answer.send(appended);
            }
        }
        drop(guard);
        self.changed.notify_one();
    }

    /// Handles a report of another server, or of this server, whose reports NATS sends back.
    fn hear(&self, payload: &[u8]) {
        let Some(report) = Report::decode(payload) else { return };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Report { epoch, server, leaves, number, head, counts } = report;
        if server == self.me {
            if let Some(listening) = &mut state.listening {
                listening.echo(number);
            }
            self.heard.notify_waiters();
            return;
        }
        if epoch != self.epoch {
            // In another epoch the seqs belong to other entries, so the report is ignored.
            state.elsewhere = Some(Instant::now());
            return;
        }
        self.furthest.fetch_max(head, Ordering::Relaxed);
        // If a server was silent for a while but its report numbers continue, no report was lost.
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

    /// Stops waiting for silent servers, and answers the appends that have waited long enough.
    /// Returns the time at which the next append will have waited long enough.
    fn look_around(&self, now: Instant) -> Option<Instant> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.fall_silent(now);
        state.answer_those_complete();
        while let Some(oldest) = state.waiting.first_entry()
            && oldest.get().until <= now
        {
            let PendingCount { applied, answer, .. } = oldest.remove();
            answer.send(Ok(Applied { partial: true, ..applied }));
        }
        state.waiting.first_key_value().map(|(_, oldest)| oldest.until)
    }

    /// Takes the counts and encodes the next report.
    fn report(&self, leaves: bool) -> Bytes {
        let mut state = self.state.lock();
        let counts = std::mem::take(&mut state.counts);
        state.number += 1;
        let (epoch, server, number, head) = (self.epoch, self.me, state.number, state.head);
        Report { epoch, server, leaves, number, head, counts }.encode()
    }

    /// Sends and receives reports until `stop`.
    pub(super) async fn run(
        &self,
        client: Client,
        subject: String,
        stop: CancellationToken,
    ) -> Result<(), async_nats::SubscribeError> {
        let mut connections = self.connections.clone();
        let mut reports = client.subscribe(subject.clone()).await?;
        // After the flush NATS knows the subscription.
        let _ = stop.run_until_cancelled(client.flush()).await;
        self.listen();
        let tell = async |leaves: bool| {
            let takes_part = self.state.lock().takes_part;
            if takes_part && client.connection_state() == Connection::Connected {
                // A failure is ignored: reports are numbered, so the other servers notice that one
                // is missing.
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
                // The NATS client subscribes again before it announces the new connection.
                Ok(()) = connections.changed() => {
                    self.listen();
                    // This server reports at once, because the others have not heard from it for a
                    // while.
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
                // The time-out lets this loop answer appends in time even while NATS accepts
                // nothing.
                let _ = timeout(TELLING, tell(false)).await;
            }
        }
        tell(true).await;
        let _ = client.flush().await;
        Ok(())
    }
}

impl PeersState {
    /// Adds a count to the next report, if the report has room.
    fn tell(&mut self, seq: u64, clients: u64) {
        if self.counts.len() < COUNTS {
            self.counts.push((seq, clients));
        } else {
            // A skipped number tells the other servers that a count is missing, as if a report was
            // lost.
            self.number += 1;
        }
    }

    /// Stops waiting for servers that are silent. Counts without them are partial.
    fn fall_silent(&mut self, now: Instant) {
        let Self { others, silent, waiting, .. } = self;
        for (server, other) in others.extract_if(|_, other| other.heard + ALIVE <= now) {
            for (_, waiting) in waiting.range_mut((Excluded(other.head), Unbounded)) {
                waiting.applied.partial = true;
            }
            // With this many silent servers, all counts are partial anyway.
            if silent.len() < SERVERS {
                silent.insert(server, other);
            }
        }
        silent.retain(|_, other| other.heard + MISSED > now);
    }

    /// Notes that counts for the entries `first` to `last` may be lost.
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
            answer.send(Ok(applied));
        }
    }
}

#[cfg(test)]
mod tests;
