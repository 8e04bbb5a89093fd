//! Messages at a rate, to a crowd that must get every one of them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::crowd::Crowd;
use super::interrupt::Interrupt;
use super::message::{Clock, message};
use super::publisher::Publisher;

/// Time for the last message to arrive everywhere.
const LATE: Duration = Duration::from_secs(20);

/// When and what to publish.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// Each message goes to the next one.
    pub(crate) tags: Arc<[String]>,
    /// Messages back to back.
    pub(crate) burst: usize,
    /// From one burst to the next.
    pub(crate) every: Duration,
    pub(crate) bursts: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// How far the publisher was behind its schedule at worst.
    pub(crate) late: Duration,
}

impl Schedule {
    /// At `rate` messages a second for about `time`.
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

    /// How many of the messages each tag gets.
    fn share(&self, tag: usize) -> usize {
        let count = self.tags.len();
        self.messages() / count + usize::from(tag < self.messages() % count)
    }
}

/// Publishes by schedule and waits until everything has arrived. Listener N of the crowd listens
/// on tag N modulo their number.
///
/// # Errors
/// When anything went wrong, and when a message did not arrive or arrived twice.
pub(crate) fn broadcast(
    crowd: &mut Crowd,
    publisher: &mut Publisher,
    schedule: &Schedule,
    clock: Clock,
    interrupt: &Interrupt,
) -> anyhow::Result<Published> {
    let before: Vec<u64> = crowd.messages().collect();
    let base = crowd.tally().messages;
    let tags = schedule.tags.len();
    let shares: Vec<u64> = (0..tags).map(|tag| schedule.share(tag) as u64).collect();
    let deliveries = (0..crowd.len()).map(|number| shares[number % tags]).sum();
    let late = thread::scope(|scope| {
        let sending = scope.spawn(|| send(publisher, schedule, clock, interrupt));
        let time = schedule.every * u32::try_from(schedule.bursts)? + LATE;
        let heard = crowd
            .listen(time, |tally| tally.messages >= base + deliveries || sending.is_finished());
        let late = sending.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        heard?;
        crowd.listen(LATE, |tally| tally.messages >= base + deliveries)?;
        anyhow::Ok(late)
    })?;
    for (number, (now, before)) in crowd.messages().zip(before).enumerate() {
        let (got, wanted) = (now - before, shares[number % tags]);
        ensure!(got == wanted, "listener {number} got {got} messages of {wanted}");
    }
    Ok(Published { messages: schedule.messages() as u64, deliveries, late })
}

fn send(
    publisher: &mut Publisher,
    schedule: &Schedule,
    clock: Clock,
    interrupt: &Interrupt,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let zero = clock.now();
    let mut late = Duration::ZERO;
    let mut number = 0;
    for burst in 0..schedule.bursts {
        let after = schedule.every * u32::try_from(burst)?;
        let left = (begun + after).saturating_duration_since(Instant::now());
        interrupt.sleep(left)?;
        late = late.max(begun.elapsed().saturating_sub(after));
        // A server that is slow to accept delays the next message: that counts against it. How
        // late this thread woke up does not.
        let sent =
            if left.is_zero() { zero + u64::try_from(after.as_nanos())? } else { clock.now() };
        let messages: Vec<(&str, String)> = (0..schedule.burst)
            .map(|_| {
                let tag = &schedule.tags[number % schedule.tags.len()];
                number += 1;
                (tag.as_str(), message(sent, schedule.size))
            })
            .collect();
        publisher.publish(&messages).with_context(|| format!("message {number}"))?;
    }
    Ok(late)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::super::crowd::Join;
    use super::super::target::{Dialect, Target};
    use super::*;
    use crate::servers::floor;

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

    #[test]
    fn everyone_gets_every_message_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || floor::serve(&listener));
        let target = Arc::new(Target::local(Dialect::Actions, address, None));
        let (clock, interrupt) = (Clock::start(), Interrupt::default());
        let mut crowd = Crowd::new(Arc::clone(&target), clock, interrupt.clone()).unwrap();
        crowd.open(30, 4, |_| Join { tag: "a".to_owned(), ..Join::default() }).unwrap();
        let mut publisher = Publisher::connect(&target).unwrap();
        let schedule = Schedule::at(&tags(&["a"]), 1_000.0, 8, 300, Duration::from_millis(64));
        let done = broadcast(&mut crowd, &mut publisher, &schedule, clock, &interrupt).unwrap();
        assert_eq!((done.messages, done.deliveries), (64, 30 * 64));
        // Of the listeners 0, 7, 14, 21 and 28.
        assert_eq!(crowd.tally().latencies.len(), 5 * 64);
        // One who is not there is missed.
        crowd.leave().unwrap();
        interrupt.set();
        assert!(crowd.linger(Duration::from_secs(9)).is_err());
    }
}
