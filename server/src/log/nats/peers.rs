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
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::log::{Appended, Applied};

/// How long a sender waits for the others' counts.
const PATIENCE: Duration = Duration::from_millis(200);
/// Reports are this far apart at least: what comes in between goes together.
const BATCH: Duration = Duration::from_millis(5);
/// And this far at most.
const HEARTBEAT: Duration = Duration::from_millis(500);
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
    state: Mutex<State>,
    /// There is something to report.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    others: HashMap<u64, Other>,
    /// The last entry that this server has applied.
    head: u64,
    /// Counts of entries that this server has not applied yet.
    early: BTreeMap<u64, u64>,
    waiting: BTreeMap<u64, Waiting>,
    /// What the others have not been told.
    counts: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Other {
    head: u64,
    heard: Instant,
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
    head: u64,
    counts: Vec<(u64, u64)>,
}

impl Peers {
    pub(super) fn new(me: u64) -> Self {
        Self { me, state: Mutex::default(), changed: Notify::new() }
    }

    /// How many others are alive.
    pub(super) fn alive(&self) -> usize {
        self.state.lock().others.len()
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
        if !alone && clients > 0 && state.counts.len() < COUNTS {
            state.counts.push((seq, clients));
        }
        let Some(answer) = answer else {
            drop(guard);
            return self.changed.notify_one();
        };
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
        for (seq, count) in report.counts {
            if let Some(waiting) = state.waiting.get_mut(&seq) {
                waiting.applied.clients = waiting.applied.clients.saturating_add(count);
            } else if seq > state.head && state.early.len() < EARLY {
                let early = state.early.entry(seq).or_default();
                *early = early.saturating_add(count);
            }
        }
        if report.leaves {
            state.others.remove(&report.server);
        } else if state.others.len() < SERVERS || state.others.contains_key(&report.server) {
            let other = Other { head: report.head, heard: Instant::now() };
            state.others.insert(report.server, other);
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
        Report { server: self.me, leaves, head: state.head, counts }.encode()
    }

    /// Tells and hears until `stop`.
    pub(super) async fn run(
        &self,
        client: Client,
        subject: String,
        stop: CancellationToken,
    ) -> Result<(), async_nats::SubscribeError> {
        let mut reports = client.subscribe(subject.clone()).await?;
        let tell = async |leaves: bool| {
            if client.connection_state() == Connection::Connected {
                // What is lost is made up for by the next one's head.
                let _ = client.publish(subject.clone(), self.report(leaves)).await;
            }
        };
        let mut told = Instant::now();
        tell(false).await;
        let mut news = false;
        loop {
            let due = self.look_around(Instant::now());
            let next = told + if news { BATCH } else { HEARTBEAT };
            let wake = due.map_or(next, |due| due.min(next));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
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
                tell(false).await;
            }
        }
        tell(true).await;
        let _ = client.flush().await;
        Ok(())
    }
}

impl State {
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
        let mut bytes = Vec::with_capacity(18 + 16 * self.counts.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(self.leaves.into());
        bytes.put_u64_le(self.server);
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
        let (server, head) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
        let (pairs, []) = bytes.as_chunks::<16>() else { return None };
        let number = |half: &[u8]| half.try_into().map(u64::from_le_bytes).ok();
        let counts = pairs
            .iter()
            .take(COUNTS)
            .map(|pair| Some((number(&pair[..8])?, number(&pair[8..])?)))
            .collect::<Option<_>>()?;
        Some(Self { server, leaves, head, counts })
    }
}

#[cfg(test)]
mod tests;
