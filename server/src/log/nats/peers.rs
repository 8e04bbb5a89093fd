//! What the servers tell each other beside the log: how far each has come, and how many clients it
//! has handed each entry to.
//!
//! Whoever has appended an entry adds that up and answers its sender when every server that is alive
//! has passed the entry, or after [`PATIENCE`] with what is known by then.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State as Connection;
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::Connections;
use crate::log::{Appended, Applied};

/// How long a sender waits for the others' counts.
const PATIENCE: Duration = Duration::from_millis(200);
/// Reports are this far apart at least: what comes in between goes together.
const BATCH: Duration = Duration::from_millis(5);
/// And this far at most.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How long NATS may take to take one.
const TELLING: Duration = Duration::from_millis(50);
/// Who has listened for so long has heard of everyone who is alive.
const SETTLED: Duration = Duration::from_millis(750);
/// One that was not heard for so long is not waited for.
const ALIVE: Duration = Duration::from_secs(2);
/// The most counts in one report, and those kept for entries that are yet to come.
const COUNTS: usize = 8 * 1024;
const EARLY: usize = 64 * 1024;
/// The most servers that are told apart.
const SERVERS: usize = 1_024;

const VERSION: u8 = 1;

/// The other servers, as far as they have been heard.
#[derive(Debug)]
pub(super) struct Peers {
    /// This server's number.
    me: u64,
    connections: Connections,
    state: Mutex<State>,
    /// There is something to report.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How long the others have been listened to without a break.
    listening: Option<Listening>,
    /// Whether this server has clients or soon will: before, nobody needs to wait for it.
    takes_part: bool,
    others: HashMap<u64, Other>,
    /// The last entry that this server has applied.
    head: u64,
    /// Counts of entries that this server has not applied yet.
    early: BTreeMap<u64, u64>,
    /// Some counts of entries up to this one were missed.
    missed_through: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// What the others have not been told.
    counts: Vec<(u64, u64)>,
    /// The number of the last report, which is one more than that of the one before unless something
    /// could not be told.
    number: u64,
}

#[derive(Debug)]
struct Listening {
    /// Over which connection.
    connection: u64,
    since: Instant,
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
struct Waiting {
    applied: Applied,
    answer: oneshot::Sender<Appended>,
    until: Instant,
}

/// What a server tells.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    server: u64,
    /// It ends.
    leaves: bool,
    /// Counts its reports, so that one that got lost is missed.
    number: u64,
    head: u64,
    counts: Vec<(u64, u64)>,
}

impl Peers {
    pub(super) fn new(me: u64, connections: Connections) -> Self {
        Self { me, connections, state: Mutex::default(), changed: Notify::new() }
    }

    /// How many others are alive.
    pub(super) fn alive(&self) -> usize {
        self.state.lock().others.len()
    }

    /// The last entry that any of the others has applied.
    pub(super) fn furthest(&self) -> u64 {
        self.state.lock().others.values().map(|other| other.head).max().unwrap_or(0)
    }

    pub(super) fn other_epoch(&self) -> bool {
        false
    }

    /// Ends when the others know this server, and it them. To be awaited before it takes clients.
    /// Cancel safe.
    pub(super) async fn introduced(&self) {
        self.state.lock().takes_part = true;
        self.changed.notify_one();
        let is_done = || {
            let state = self.state.lock();
            state.number > 0 && self.is_settled(&state)
        };
        while !is_done() {
            // Once for every start: not worth a notification on every report.
            sleep(BATCH).await;
        }
    }

    /// Whether everyone who is alive has been heard, over the connection that there is now.
    fn is_settled(&self, state: &State) -> bool {
        state.listening.as_ref().is_some_and(|listening| {
            listening.connection == *self.connections.borrow()
                && listening.since.elapsed() >= SETTLED
        })
    }

    /// Everything that is told from now on is heard.
    fn listen(&self) {
        let (connection, since) = (*self.connections.borrow(), Instant::now());
        self.state.lock().listening = Some(Listening { connection, since });
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
        let alone = state.others.is_empty();
        let is_settled = self.is_settled(state);
        if !(alone && is_settled) && clients > 0 {
            state.tell(seq, clients);
        }
        let Some(answer) = answer else {
            drop(guard);
            return self.changed.notify_one();
        };
        let partial = !is_settled || seq <= state.missed_through;
        let appended = appended.map(|applied| Applied { partial, ..applied });
        match appended {
            Ok(applied) if !alone => {
                let clients = applied.clients.saturating_add(elsewhere);
                let applied = Applied { clients, ..applied };
                let until = Instant::now() + PATIENCE;
                state.waiting.insert(seq, Waiting { applied, answer, until });
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

    /// Takes a report of another server.
    fn hear(&self, payload: &[u8]) {
        let Some(report) = Report::decode(payload) else { return };
        if report.server == self.me {
            return;
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Report { server, leaves, number, head, counts } = report;
        let before = state.others.get(&server);
        let (told, upto) = before.map_or((0, 0), |other| (other.number, other.head));
        if number != told + 1 {
            state.miss(upto + 1, head);
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
        if leaves {
            state.others.remove(&server);
        } else if state.others.len() < SERVERS || state.others.contains_key(&server) {
            state.others.insert(server, Other { head, heard: Instant::now(), number });
        }
        state.answer_those_complete();
    }

    /// Gives up those who were not heard, and answers whoever has waited long enough. Answers when
    /// that is to be done next.
    fn look_around(&self, now: Instant) -> Option<Instant> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.others.retain(|_, other| other.heard + ALIVE > now);
        state.answer_those_complete();
        while let Some(oldest) = state.waiting.first_entry()
            && oldest.get().until <= now
        {
            let Waiting { applied, answer, .. } = oldest.remove();
            let _ = answer.send(Ok(Applied { partial: true, ..applied }));
        }
        state.waiting.first_key_value().map(|(_, oldest)| oldest.until)
    }

    /// What is to be told now.
    fn report(&self, leaves: bool) -> Bytes {
        let mut state = self.state.lock();
        let counts = std::mem::take(&mut state.counts);
        state.number += 1;
        Report { server: self.me, leaves, number: state.number, head: state.head, counts }.encode()
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
        let mut news = false;
        loop {
            let due = self.look_around(Instant::now());
            let next = told + if news { BATCH } else { HEARTBEAT };
            let wake = due.map_or(next, |due| due.min(next));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // The subscription is made again before anybody hears of the connection.
                Ok(()) = connections.changed() => self.listen(),
                () = self.changed.notified(), if !news => news = true,
                report = reports.next() => match report {
                    Some(report) => self.hear(&report.payload),
                    None => break,
                },
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= told + if news { BATCH } else { HEARTBEAT } {
                told = Instant::now();
                news = false;
                // Whoever waits for counts is answered also while NATS takes nothing.
                let _ = timeout(TELLING, tell(false)).await;
            }
        }
        tell(true).await;
        let _ = client.flush().await;
        Ok(())
    }
}

impl State {
    /// What the others are to be told of an entry, if there is room for it.
    fn tell(&mut self, seq: u64, clients: u64) {
        if self.counts.len() < COUNTS {
            self.counts.push((seq, clients));
        } else {
            // Missed, as if a report was lost.
            self.number += 1;
        }
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
            let Waiting { applied, answer, .. } = oldest.remove();
            let _ = answer.send(Ok(applied));
        }
    }
}

impl Report {
    fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(26 + 16 * self.counts.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(self.leaves.into());
        bytes.put_u64_le(self.server);
        bytes.put_u64_le(self.number);
        bytes.put_u64_le(self.head);
        for (seq, count) in &self.counts {
            bytes.put_u64_le(*seq);
            bytes.put_u64_le(*count);
        }
        bytes.into()
    }

    /// None if it is none.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let leaves = bytes.try_get_u8().ok()? != 0;
        let [server, number, head] = [
            bytes.try_get_u64_le().ok()?,
            bytes.try_get_u64_le().ok()?,
            bytes.try_get_u64_le().ok()?,
        ];
        let (pairs, []) = bytes.as_chunks::<16>() else { return None };
        let half = |half: &[u8]| half.try_into().map(u64::from_le_bytes).ok();
        let counts = pairs
            .iter()
            .take(COUNTS)
            .map(|pair| Some((half(&pair[..8])?, half(&pair[8..])?)))
            .collect::<Option<_>>()?;
        Some(Self { server, leaves, number, head, counts })
    }
}

#[cfg(test)]
mod tests;
