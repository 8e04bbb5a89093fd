//! What is measured of servers that share a log, in one round.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use clap::ValueEnum;

use super::nats::Nats;
use crate::load::answers::Way;
use crate::load::broadcast::Schedule;
use crate::load::crowd::{Crowd, Join};
use crate::load::interrupt::Interrupt;
use crate::load::message::Clock;
use crate::load::senders::{Plan, Senders};
use crate::load::session::Session;
use crate::metric::{Metric, millis};
use crate::process::Meter;
use crate::servers::ours::{Launch, until_ready};
use crate::servers::start::Running;

const TAG: &str = "bench";

/// Bytes of a message.
const SIZE: usize = 125;

/// Those who listen while latency is measured: few, so that it is that of the log.
const FEW: usize = 100;
const TURNS: usize = 4;

/// Those who listen on each server.
const LISTENERS: usize = 1_000;
const SERVERS: usize = 3;

const AT_A_TIME: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// What the way through NATS adds to a delivery's latency
    Latency,
    /// CPU per delivery on each of one, two and three servers
    Servers,
    /// A server is started on a stream with many entries
    Follow,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latency => "latency",
            Self::Servers => "servers",
            Self::Follow => "follow",
        })
    }
}

/// Where a case takes place.
pub(crate) struct Stage<'a> {
    pub(crate) server: &'a Path,
    pub(crate) nats: &'a Path,
    /// For this case alone.
    pub(crate) directory: &'a Path,
    /// Entries in the stream at the start.
    pub(crate) entries: u64,
    pub(crate) interrupt: &'a Interrupt,
}

impl Case {
    pub(crate) const ALL: [Self; 3] = [Self::Latency, Self::Servers, Self::Follow];

    /// # Errors
    /// Whatever went wrong with a connection or a program.
    pub(crate) fn measure(self, stage: &Stage<'_>) -> anyhow::Result<Vec<(Metric, f64)>> {
        match self {
            Self::Latency => stage.latency(),
            Self::Servers => stage.servers(),
            Self::Follow => stage.follow(),
        }
    }
}

impl Stage<'_> {
    /// Both servers run all the time and get their messages in turn, so that whatever else the
    /// machine does concerns both.
    fn latency(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let nats = Nats::start(self.nats, self.directory, false)?;
        let tags: Arc<[String]> = [TAG.to_owned()].into();
        let (one, other) = (self.place("nats-server")?, self.place("memory")?);
        let more = nats.options(&self.id_key());
        let running = [
            Launch { tags: &tags, more: &more, ..Launch::new(self.server, &one) }.start()?,
            Launch { tags: &tags, ..Launch::new(self.server, &other) }.start()?,
        ];
        let mut sessions = Vec::new();
        for server in &running {
            let pid = Some(server.pid());
            let mut session = Session::new(&server.target, Arc::clone(&tags), pid, self.interrupt)?;
            session.open(FEW, AT_A_TIME)?;
            sessions.push(session);
        }
        let schedule = |time| Schedule::at(&tags, 50.0, 1, SIZE, Duration::from_millis(time));
        let mut sums = [0.0; 2];
        for turn in 0..=TURNS {
            for (session, sum) in sessions.iter_mut().zip(&mut sums) {
                let done = session.deliver(&schedule(500), &schedule(1_000))?;
                if turn > 0 {
                    *sum += millis(done.latencies.value_at_quantile(0.5));
                }
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        let added = (sums[0] - sums[1]) / TURNS as f64;
        Ok(vec![(Metric::NatsLatency, added)])
    }

    /// The first publishes; each delivers to its own listeners.
    fn servers(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let mut costs = Vec::new();
        for count in 1..=SERVERS {
            costs.push(self.cost_with(count).with_context(|| format!("{count} servers"))?);
        }
        let alone = costs[0];
        let most = costs[1..].iter().fold(0.0, |most: f64, cost| most.max(cost / alone));
        Ok(vec![(Metric::NatsDelivery, alone), (Metric::NatsServers, most)])
    }

    /// The mean over the servers of CPU per delivery, in microseconds.
    fn cost_with(&self, count: usize) -> anyhow::Result<f64> {
        let place = self.place(&format!("with-{count}"))?;
        let nats = Nats::start(self.nats, &place, false)?;
        let tags: Arc<[String]> = [TAG.to_owned()].into();
        let more = nats.options(&self.id_key());
        let mut running: Vec<Running> = Vec::new();
        for number in 0..count {
            let own = place.join(number.to_string());
            std::fs::create_dir(&own)?;
            running.push(
                Launch { tags: &tags, more: &more, ..Launch::new(self.server, &own) }.start()?,
            );
        }
        let pid = Some(running[0].pid());
        let mut session = Session::new(&running[0].target, Arc::clone(&tags), pid, self.interrupt)?;
        session.open(LISTENERS, AT_A_TIME)?;
        let schedule = |seconds| Schedule::at(&tags, 10.0, 1, SIZE, Duration::from_secs(seconds));
        let (warm_up, measured) = (schedule(1), schedule(5));
        let (stop, all_listen) = (Interrupt::default(), Barrier::new(count));
        std::thread::scope(|scope| {
            let others: Vec<_> = running[1..]
                .iter()
                .map(|server| {
                    let (stop, all_listen) = (&stop, &all_listen);
                    scope.spawn(move || listen(server, stop, all_listen))
                })
                .collect();
            all_listen.wait();
            let done = session.deliver(&warm_up, &measured);
            stop.set();
            let mut sum = done?.micros.context("the server is gone")?;
            for other in others {
                sum += other.join().map_err(|_| anyhow!("a thread has panicked"))??;
            }
            #[allow(clippy::cast_precision_loss, reason = "a handful")]
            Ok(sum / count as f64)
        })
    }

    fn follow(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let nats = Nats::start(self.nats, self.directory, false)?;
        let tags = [TAG.to_owned()];
        let place = self.place("follow")?;
        let more = nats.options(&self.id_key());
        let launch = Launch { tags: &tags, more: &more, ..Launch::new(self.server, &place) };
        let running = launch.start()?;
        let plan = Plan {
            way: Way::WebSocket,
            senders: 64,
            in_flight: 32,
            tag: TAG.to_owned(),
            size: SIZE,
            mids: true,
        };
        let mut senders = Senders::new(&running.target, plan, self.interrupt.clone())?;
        let begun = Instant::now();
        // Those on their way come on top.
        senders.send(|accepted| accepted.sent >= self.entries)?;
        senders.finish()?;
        drop(senders);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = self.entries as f64 / begun.elapsed().as_secs_f64();
        running.program.stop()?;
        let begun = Instant::now();
        let (_running, admin) = launch.start_with_admin()?;
        until_ready(admin, begun, self.interrupt)?;
        Ok(vec![(Metric::NatsRate, rate), (Metric::NatsStart, begun.elapsed().as_secs_f64())])
    }

    fn place(&self, name: &str) -> anyhow::Result<PathBuf> {
        let place = self.directory.join(name);
        std::fs::create_dir(&place)?;
        Ok(place)
    }

    fn id_key(&self) -> PathBuf {
        self.directory.join("id.key")
    }
}

/// Listens on a server until `stop`; its CPU per delivery, in microseconds.
fn listen(server: &Running, stop: &Interrupt, all_listen: &Barrier) -> anyhow::Result<f64> {
    let opened = Crowd::new(Arc::clone(&server.target), Clock::start(), stop.clone()).and_then(
        |mut crowd| {
            crowd.open(LISTENERS, AT_A_TIME, |_| Join {
                tag: TAG.to_owned(),
                more: String::new(),
            })?;
            Ok(crowd)
        },
    );
    let mut meter = Meter::start(server.pid());
    all_listen.wait();
    let mut crowd = opened?;
    let before = crowd.tally().messages;
    // An interrupt ends that with an error too.
    while stop.check().is_ok() {
        let _ = crowd.linger(Duration::from_millis(50));
    }
    let messages = crowd.tally().messages - before;
    ensure!(messages > 0, "nothing was delivered");
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(meter.sample().as_secs_f64() * 1e6 / messages as f64)
}
