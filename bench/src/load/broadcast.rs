//! Publishes messages at a fixed rate to listeners, each of which must receive every message.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::connection::{Connection, LONGEST_WAIT, Poll};
use super::listeners::Listeners;
use super::target::{ClientProtocol, Target};
use super::wire::{PublishMethod, answers, message, now};
use crate::run;

/// How long the last message may take to reach all listeners.
const LATE: Duration = Duration::from_secs(20);

/// The times of the messages, and their tags.
pub(crate) struct Schedule {
    /// The tags of the messages. Each message is published on the next tag.
    pub(crate) tags: Arc<[String]>,
    /// The number of messages in one write.
    burst: usize,
    /// The time from one burst to the next.
    every: Duration,
    bursts: usize,
    /// The size of a message in bytes.
    size: usize,
}

/// The numbers of published and delivered messages, and the publisher's delay.
pub(crate) struct Published {
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// The largest delay of the publisher behind its schedule.
    pub(crate) late: Duration,
}

impl Schedule {
    /// Returns a schedule of `rate` messages a second for about `time`.
    pub(crate) fn at(
        tags: &Arc<[String]>,
        rate: f64,
        burst: usize,
        size: usize,
        time: Duration,
    ) -> Self {
        let every = Duration::from_secs_f64(burst as f64 / rate);
        let bursts = (time.as_secs_f64() / every.as_secs_f64()).ceil().max(1.0) as usize;
        Self { tags: Arc::clone(tags), burst, every, bursts, size }
    }

    fn messages(&self) -> usize {
        self.burst * self.bursts
    }

    /// Returns the number of messages that are published on a tag.
    fn share(&self, tag: usize) -> usize {
        let count = self.tags.len();
        self.messages() / count + usize::from(tag < self.messages() % count)
    }
}

/// Publishes by schedule, and returns the largest delay.
fn send(publisher: &mut Publisher, schedule: &Schedule) -> Result<Duration> {
    let (begun, zero) = (Instant::now(), now());
    let mut late = Duration::ZERO;
    let mut tags = schedule.tags.iter().cycle();
    for burst in 0..schedule.bursts {
        let after = schedule.every * u32::try_from(burst)?;
        let left = (begun + after).saturating_duration_since(Instant::now());
        run::sleep(left)?;
        late = late.max(begun.elapsed().saturating_sub(after));
        // A server that is slow to accept a message delays the next one, so the latency counts from
        // the scheduled time. If only this thread woke up late, the latency counts from now.
        let sent = if left.is_zero() { zero + u64::try_from(after.as_nanos())? } else { now() };
        let messages: Vec<(&str, String)> = tags
            .by_ref()
            .take(schedule.burst)
            .map(|tag| (tag.as_str(), message(sent, schedule.size)))
            .collect();
        publisher.publish(&messages).with_context(|| format!("burst {burst}"))?;
    }
    Ok(late)
}

const BUFFER: usize = 64 * 1024;

/// How long the server may take to upgrade the connection, and to accept messages.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Publisher {
    target: Arc<Target>,
    method: PublishMethod,
    poll: Poll,
    connection: Connection,
    buffer: Vec<u8>,
}

impl Publisher {
    /// Connects with the publishing method that costs the server least.
    ///
    /// # Errors
    /// When the connection fails.
    pub(crate) fn connect(target: &Arc<Target>) -> Result<Self> {
        let (method, upgrade) = match target.protocol {
            ClientProtocol::Actions => (PublishMethod::WebSocket, Some(target.upgrade("bench"))),
            ClientProtocol::Nchan => (PublishMethod::Post, None),
        };
        let poll = Poll::new()?;
        let connection = target.connect(&poll, 0, upgrade)?;
        let (target, buffer) = (Arc::clone(target), vec![0; BUFFER]);
        let mut publisher = Self { target, method, poll, connection, buffer };
        publisher.wait_for(0).context("the publisher's connection")?;
        Ok(publisher)
    }

    /// Publishes messages, each on a tag, in one write, and waits until the server has accepted all
    /// of them.
    ///
    /// # Errors When the server does not accept them all.
    pub(crate) fn publish(&mut self, messages: &[(&str, String)]) -> Result<()> {
        let bytes = messages
            .iter()
            .flat_map(|(tag, message)| self.target.publication(self.method, tag, message, None));
        let bytes: Vec<u8> = bytes.collect();
        self.connection.send(&bytes).context("publishing")?;
        self.wait_for(messages.len()).context("waiting for the server to accept")
    }

    /// Publishes by schedule and waits until every message has arrived. The listeners must have
    /// joined the tags in turn, as [`Listeners::open`] does.
    ///
    /// # Errors
    /// When a message did not arrive, arrived twice or could not be published.
    pub(crate) fn broadcast(
        &mut self,
        listeners: &mut Listeners,
        schedule: &Schedule,
    ) -> Result<Published> {
        let before: Vec<u64> = listeners.messages().collect();
        let tags = schedule.tags.len();
        let shares: Vec<u64> = (0..tags).map(|tag| schedule.share(tag) as u64).collect();
        let deliveries = (0..listeners.list.len()).map(|number| shares[number % tags]).sum();
        let all = listeners.tally.messages + deliveries;
        let late = thread::scope(|scope| {
            let sending = scope.spawn(|| send(self, schedule));
            let time = schedule.every * u32::try_from(schedule.bursts)? + LATE;
            let heard = listeners
                .listen_until(time, |tally| tally.messages >= all || sending.is_finished());
            let late = sending.join().map_err(|_| anyhow!("the publisher panicked"))??;
            heard?;
            listeners.listen_until(LATE, |tally| tally.messages >= all)?;
            anyhow::Ok(late)
        })?;
        for (number, (now, before)) in listeners.messages().zip(before).enumerate() {
            let (got, wanted) = (now - before, shares[number % tags]);
            ensure!(got == wanted, "listener {number} got {got} messages of {wanted}");
        }
        Ok(Published { messages: schedule.messages() as u64, deliveries, late })
    }

    /// Waits until the connection is upgraded and `messages` messages are accepted.
    fn wait_for(&mut self, messages: usize) -> Result<()> {
        let Self { method, poll, connection, buffer, .. } = self;
        let (mut accepted, begun) = (0, Instant::now());
        while connection.is_upgrading || accepted < messages {
            ensure!(begun.elapsed() < LIMIT, "nothing for {LIMIT:?}");
            for _ in poll.wait(LONGEST_WAIT)? {
                connection.on_ready(buffer, |out, input| {
                    let answers = answers(*method, input)?;
                    accepted += answers.accepted;
                    out.extend(answers.pongs);
                    Ok(answers.used)
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> Arc<[String]> {
        names.iter().copied().map(str::to_owned).collect()
    }

    #[test]
    fn every_tag_gets_its_share() {
        let schedule =
            Schedule::at(&tags(&["a", "b", "c"]), 10.0, 4, 125, Duration::from_millis(700));
        assert_eq!((schedule.every, schedule.bursts), (Duration::from_millis(400), 2));
        assert_eq!([0, 1, 2].map(|tag| schedule.share(tag)), [3, 3, 2]);
    }
}
