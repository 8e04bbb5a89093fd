//! A crowd, a publisher and the process that serves them.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::broadcast::{Published, Schedule, broadcast};
use super::crowd::{Crowd, Join};
use super::interrupt::Interrupt;
use super::message::Clock;
use super::publisher::Publisher;
use super::target::Target;
use crate::process::{Memory, Meter};

/// Time for a program to finish what the last event left it to do, so that nothing moves past the
/// measured window.
const SETTLE: Duration = Duration::from_millis(200);

/// One server under load.
pub(crate) struct Session {
    target: Arc<Target>,
    crowd: Crowd,
    /// Connects when it is needed first: the floor takes a silent newcomer for a slow listener.
    publisher: Option<Publisher>,
    tags: Arc<[String]>,
    clock: Clock,
    interrupt: Interrupt,
    /// The root of the server's processes, if it runs here.
    pid: Option<u32>,
}

/// What listeners cost, each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    /// CPU of connecting, upgrading and registering, in microseconds.
    pub(crate) micros: Option<f64>,
    /// User memory, in bytes.
    pub(crate) bytes: Option<f64>,
}

/// What deliveries cost.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) published: Published,
    /// CPU of a delivery, in microseconds.
    pub(crate) micros: Option<f64>,
    /// Nanoseconds from sending to arrival.
    pub(crate) latencies: Histogram<u64>,
}

impl Session {
    /// Nobody listens yet.
    ///
    /// # Errors
    /// When the system has no `epoll` to give.
    pub(crate) fn new(
        target: &Arc<Target>,
        tags: Arc<[String]>,
        pid: Option<u32>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let crowd = Crowd::new(Arc::clone(target), clock, interrupt.clone())?;
        let (target, interrupt) = (Arc::clone(target), interrupt.clone());
        Ok(Self { target, crowd, publisher: None, tags, clock, interrupt, pid })
    }

    /// Adds listeners, evenly over the tags.
    ///
    /// # Errors
    /// When one cannot join, or the process has ended.
    pub(crate) fn open(&mut self, count: usize, at_a_time: usize) -> anyhow::Result<Opened> {
        self.crowd.linger(SETTLE)?;
        let before = self.pid.map(Memory::of_tree).transpose()?;
        let mut meter = self.pid.map(Meter::start);
        let tags = Arc::clone(&self.tags);
        self.crowd.open(count, at_a_time, |number| Join {
            tag: tags[number % tags.len()].clone(),
            more: String::new(),
        })?;
        self.crowd.linger(SETTLE)?;
        let micros = meter.as_mut().map(|meter| each(meter.sample(), count));
        let after = self.pid.map(Memory::of_tree).transpose()?;
        #[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
        let bytes = before
            .zip(after)
            .map(|(before, after)| (after.user as f64 - before.user as f64) / count as f64);
        Ok(Opened { micros, bytes })
    }

    /// Publishes by `warm_up`, then measures `schedule`.
    ///
    /// # Errors
    /// When a message did not reach everyone once.
    pub(crate) fn deliver(
        &mut self,
        warm_up: &Schedule,
        schedule: &Schedule,
    ) -> anyhow::Result<Delivered> {
        self.broadcast(warm_up)?;
        self.crowd.linger(SETTLE)?;
        self.crowd.measure_from(self.clock.now());
        let mut meter = self.pid.map(Meter::start);
        let published = self.broadcast(schedule)?;
        self.crowd.linger(SETTLE)?;
        let deliveries = usize::try_from(published.deliveries)?;
        let micros = meter.as_mut().map(|meter| each(meter.sample(), deliveries));
        Ok(Delivered { published, micros, latencies: self.crowd.tally().latencies.clone() })
    }

    fn broadcast(&mut self, schedule: &Schedule) -> anyhow::Result<Published> {
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            absent => absent.insert(Publisher::connect(&self.target)?),
        };
        broadcast(&mut self.crowd, publisher, schedule, self.clock, &self.interrupt)
    }
}

/// Microseconds of each of `count` things.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}
