//! Many senders on one thread, each with so many messages on their way at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;

use super::answers::{Way, answers};
use super::frame::{TEXT, client_frame};
use super::interrupt::Interrupt;
use super::link::{Link, News};
use super::member::histogram;
use super::message::{Clock, message};
use super::poll::{LOOK_UP, Poll};
use super::target::Target;
use super::wire::Wire;

/// Read at once.
const BUFFER: usize = 64 * 1024;

/// Time without any answer.
const STUCK: Duration = Duration::from_secs(20);

/// What is sent and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) way: Way,
    pub(crate) senders: usize,
    /// Messages of one sender that are sent and not yet answered.
    pub(crate) in_flight: usize,
    pub(crate) tag: String,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// Whether each has a name of its own, as those of our clients do.
    pub(crate) mids: bool,
}

pub(crate) struct Senders {
    poll: Poll,
    list: Vec<Sender>,
    office: Office,
    buffer: Vec<u8>,
}

struct Sender {
    link: Link,
    /// When those on their way were sent.
    sent: VecDeque<u64>,
}

/// What all senders share.
struct Office {
    target: Arc<Target>,
    plan: Plan,
    clock: Clock,
    closing: bool,
    numbers: u64,
    tally: Accepted,
}

/// What was accepted so far.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) sent: u64,
    pub(crate) messages: u64,
    /// Nanoseconds from sending to the answer.
    pub(crate) latencies: Histogram<u64>,
}

impl Senders {
    /// Begins to connect all of them. Each sends as soon as it is there.
    ///
    /// # Errors
    /// When the system has no sockets to give.
    pub(crate) fn new(
        target: &Arc<Target>,
        plan: Plan,
        interrupt: Interrupt,
    ) -> anyhow::Result<Self> {
        let poll = Poll::new(interrupt)?;
        let mut list = Vec::with_capacity(plan.senders);
        for number in 0..plan.senders {
            let upgrade = (plan.way == Way::WebSocket).then(|| target.upgrade(&plan.tag));
            let link = Link::new(target.begin(number)?, upgrade);
            poll.add(&link, number)?;
            list.push(Sender { link, sent: VecDeque::new() });
        }
        let tally = Accepted { sent: 0, messages: 0, latencies: histogram()? };
        let (target, clock) = (Arc::clone(target), Clock::start());
        let office =
            Office { target, plan, clock, closing: false, numbers: first_number()?, tally };
        Ok(Self { poll, list, office, buffer: vec![0; BUFFER] })
    }

    pub(crate) fn accepted(&self) -> &Accepted {
        &self.office.tally
    }

    /// Forgets the latencies so far.
    pub(crate) fn measure(&mut self) {
        self.office.tally.latencies.clear();
    }

    /// Sends until `enough` says so.
    ///
    /// # Errors
    /// When a message is refused, or no answer comes any more.
    pub(crate) fn send(&mut self, mut enough: impl FnMut(&Accepted) -> bool) -> anyhow::Result<()> {
        let (mut progress, mut progressed) = (self.office.tally.messages, Instant::now());
        while !enough(&self.office.tally) {
            for number in self.poll.wait(LOOK_UP)? {
                let Some(sender) = self.list.get_mut(number) else { continue };
                let (office, sent) = (&mut self.office, &mut sender.sent);
                sender
                    .link
                    .go_on(&mut self.buffer, |wire, news| office.take(wire, news, sent))
                    .with_context(|| format!("sender {number}"))?;
            }
            if self.office.tally.messages != progress {
                (progress, progressed) = (self.office.tally.messages, Instant::now());
            } else if progressed.elapsed() > STUCK {
                bail!("no message was accepted for {STUCK:?}");
            }
        }
        Ok(())
    }

    /// Waits for the answers to what has been sent.
    ///
    /// # Errors
    /// As [`Senders::send`].
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        self.office.closing = true;
        self.send(|tally| tally.messages == tally.sent)
    }
}

impl Office {
    fn take(
        &mut self,
        wire: &mut Wire,
        news: News<'_>,
        sent: &mut VecDeque<u64>,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        if let News::Bytes(input) = news {
            let answers = answers(self.plan.way, input)?;
            let now = self.clock.now();
            for _ in 0..answers.accepted {
                let begun = sent.pop_front().context("an answer to nothing")?;
                self.tally.messages += 1;
                self.tally.latencies.saturating_record(now.saturating_sub(begun));
            }
            if !answers.pongs.is_empty() {
                wire.write(&answers.pongs).context("answering a ping")?;
            }
            used = answers.used;
        }
        let mut bytes = Vec::new();
        while sent.len() < self.plan.in_flight && !self.closing {
            let now = self.clock.now();
            self.numbers += 1;
            let mid = self.plan.mids.then_some(self.numbers);
            let text = message(now, self.plan.size);
            match self.plan.way {
                Way::WebSocket => {
                    let action = self.target.broadcast(&self.plan.tag, &text, mid);
                    bytes.extend(client_frame(TEXT, action.as_bytes()));
                }
                Way::Post => bytes.extend(self.target.post(&self.plan.tag, &text, mid)),
            }
            sent.push_back(now);
            self.tally.sent += 1;
        }
        if !bytes.is_empty() {
            wire.write(&bytes).context("sending")?;
        }
        Ok(used)
    }
}

/// Messages have names that no earlier run has used on the same server: microseconds since 1970, of
/// which there are more than messages.
fn first_number() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}
