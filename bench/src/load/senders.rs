//! Many senders on one thread, each of which may have several unanswered messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::connection::{Connection, LONGEST_WAIT, Poll};
use super::target::Target;
use super::wire::{Latencies, PublishMethod, answers, message, now};
use crate::options::range;

/// The number of bytes that are read at once.
const BUFFER: usize = 64 * 1024;

/// How long the senders may wait for any answer.
const STUCK: Duration = Duration::from_secs(20);

/// The messages to send, and the way to send them.
#[derive(Debug, Clone, Args)]
pub(crate) struct SendPlan {
    /// How messages are sent
    #[arg(long, default_value = "post")]
    pub(crate) over: PublishMethod,

    /// The number of senders, each on a connection that stays open
    #[arg(long, default_value = "64", value_parser = range(1..=10_000))]
    pub(crate) publishers: u32,

    /// How many messages one sender sends before the first of them is answered
    #[arg(long, default_value = "1", value_parser = range(1..=64))]
    pub(crate) in_flight: u32,

    /// Tag of the messages
    #[arg(long, default_value = "bench")]
    pub(crate) tag: String,

    /// Bytes of a message
    #[arg(long, default_value = "125", value_parser = range(34..=65_536))]
    pub(crate) size: u32,

    /// Send messages without the ID (`mid`) that makes a retry safe
    #[arg(long)]
    pub(crate) without_mid: bool,
}

pub(crate) struct Senders {
    poll: Poll,
    connections: Vec<Connection>,
    pub(crate) traffic: Traffic,
    buffer: Vec<u8>,
}

/// The state of all senders together.
pub(crate) struct Traffic {
    target: Arc<Target>,
    plan: SendPlan,
    is_closing: bool,
    last_mid: u64,
    /// For each sender, the times at which its unanswered messages were sent.
    in_flight: Vec<VecDeque<u64>>,
    pub(crate) accepted: Accepted,
}

/// The numbers of messages so far, and their latencies.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    pub(crate) sent: u64,
    pub(crate) messages: u64,
    /// Nanoseconds from sending to the answer.
    pub(crate) latencies: Latencies,
}

impl Senders {
    /// Begins to connect all senders. Each one sends as soon as it is connected.
    ///
    /// # Errors
    /// When the system cannot open another socket.
    pub(crate) fn new(target: &Arc<Target>, plan: SendPlan) -> Result<Self> {
        let poll = Poll::new()?;
        let senders = plan.publishers as usize;
        let mut traffic = Traffic {
            target: Arc::clone(target),
            is_closing: false,
            // The IDs start at the microseconds since 1970. A run sends less than one message a
            // microsecond, so no earlier run has used the same IDs.
            last_mid: u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?,
            in_flight: vec![VecDeque::new(); senders],
            accepted: Accepted::default(),
            plan,
        };
        let mut connections = Vec::with_capacity(senders);
        for number in 0..senders {
            let Traffic { plan, .. } = &traffic;
            let is_socket = plan.over == PublishMethod::WebSocket;
            let upgrade = is_socket.then(|| target.upgrade(&plan.tag));
            let mut connection = target.connect(&poll, number, upgrade)?;
            if !is_socket {
                let mut first = Vec::new();
                traffic.handle(number, &mut first, &[])?;
                connection.send(&first)?;
            }
            connections.push(connection);
        }
        Ok(Self { poll, connections, traffic, buffer: vec![0; BUFFER] })
    }

    /// Sends messages until `enough` returns true.
    ///
    /// # Errors
    /// When a message is refused, or no answer arrives any more.
    pub(crate) fn send_until(&mut self, mut enough: impl FnMut(&Accepted) -> bool) -> Result<()> {
        let Self { poll, connections, traffic, buffer } = self;
        let (mut answered, mut progress) = (traffic.accepted.messages, Instant::now());
        while !enough(&traffic.accepted) {
            for number in poll.wait(LONGEST_WAIT)? {
                connections[number]
                    .on_ready(buffer, |out, input| traffic.handle(number, out, input))
                    .with_context(|| format!("sender {number}"))?;
            }
            if traffic.accepted.messages != answered {
                (answered, progress) = (traffic.accepted.messages, Instant::now());
            }
            ensure!(progress.elapsed() <= STUCK, "no message was accepted for {STUCK:?}");
        }
        Ok(())
    }

    /// Waits for the answers to the messages in flight.
    ///
    /// # Errors
    /// As for [`Senders::send_until`].
    pub(crate) fn finish(mut self) -> Result<()> {
        self.traffic.is_closing = true;
        self.send_until(|accepted| accepted.messages == accepted.sent)
    }
}

impl Traffic {
    fn handle(&mut self, sender: usize, out: &mut Vec<u8>, input: &[u8]) -> Result<usize> {
        let Self { target, plan, accepted, .. } = self;
        let in_flight = &mut self.in_flight[sender];
        let answers = answers(plan.over, input)?;
        out.extend(answers.pongs);
        let at = now();
        for _ in 0..answers.accepted {
            let sent = in_flight.pop_front().context("an answer to no message")?;
            accepted.messages += 1;
            accepted.latencies.record(sent, at);
        }
        while in_flight.len() < plan.in_flight as usize && !self.is_closing {
            let at = now();
            self.last_mid += 1;
            let mid = (!plan.without_mid).then_some(self.last_mid);
            let text = message(at, plan.size as usize);
            out.extend(target.publication(plan.over, &plan.tag, &text, mid));
            in_flight.push_back(at);
            accepted.sent += 1;
        }
        Ok(answers.used)
    }
}
