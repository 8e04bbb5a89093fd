//! What is measured of one server in one round.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use super::disk;
use crate::load::answers::Way;
use crate::load::broadcast::Schedule;
use crate::load::crowd::{Crowd, Join};
use crate::load::interrupt::Interrupt;
use crate::load::message::{Clock, message};
use crate::load::publisher::Publisher;
use crate::load::senders::{Plan, Senders};
use crate::load::session::Session;
use crate::metric::{Metric, millis};
use crate::publish;
use crate::servers::ours::{Launch, until_ready};
use crate::servers::probe::{Errand, Probe};
use crate::servers::start::Running;

const TAG: &str = "bench";
const QUIET: &str = "bench-quiet";

/// Bytes of a message.
const SIZE: usize = 125;

const SENDERS: usize = 64;
const AT_A_TIME: usize = 16;

/// Those who listen while keeping is measured, and how often the two servers take turns.
const LISTENERS: usize = 2_000;
const TURNS: usize = 8;

/// Those who come back, and what each has missed.
const RETURNING: usize = 10_000;
const MISSED: usize = 20;

/// Time for the server to notice that they are gone, and for all of them to be up to date.
const GONE: Duration = Duration::from_secs(1);
const CAUGHT_UP: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// 64 senders, every message on disk before its answer
    Durable,
    /// What ring and inbox add to a delivery
    Keeping,
    /// 10,000 clients resume at once
    Resume,
    /// A server with many messages on disk is started
    Start,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::Keeping => "keeping",
            Self::Resume => "resume",
            Self::Start => "start",
        })
    }
}

/// Where a case takes place.
pub(crate) struct Stage<'a> {
    pub(crate) server: &'a Path,
    /// For this case alone.
    pub(crate) directory: &'a Path,
    /// Messages on disk at the start.
    pub(crate) entries: u64,
    pub(crate) interrupt: &'a Interrupt,
}

impl Case {
    pub(crate) const ALL: [Self; 4] = [Self::Durable, Self::Keeping, Self::Resume, Self::Start];

    /// Connections at once, each of which takes an open file here and in the server.
    pub(crate) fn listeners(self) -> usize {
        match self {
            Self::Durable | Self::Start => SENDERS,
            Self::Keeping => 2 * LISTENERS,
            Self::Resume => RETURNING,
        }
    }

    /// # Errors
    /// Whatever went wrong with a connection or the program.
    pub(crate) fn measure(self, stage: &Stage<'_>) -> anyhow::Result<Vec<(Metric, f64)>> {
        match self {
            Self::Durable => stage.durable(),
            Self::Keeping => stage.keeping(),
            Self::Resume => stage.resume(),
            Self::Start => stage.start(),
        }
    }
}

impl Stage<'_> {
    fn durable(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let fsync = disk::sync(self.directory)?;
        let library = disk::slowed(self.directory)?;
        let tags = tags();
        let times = (Duration::from_secs(1), Duration::from_secs(5));
        let measure = |data, preload| {
            let data: PathBuf = self.directory.join(data);
            let launch = Launch { tags: &tags, data: Some(&data), preload, ..self.launch() };
            let running = launch.start()?;
            let pid = Some(running.pid());
            publish::measure(&running.target, plan(1), pid, times, self.interrupt)
        };
        let here = measure("data", None)?;
        let slower = measure("slower", Some(library.as_path()))?;
        Ok(vec![
            (Metric::Durable, slower.per_second()),
            (Metric::DurableLate, millis(slower.latencies.value_at_quantile(0.99))),
            (Metric::DurableHere, here.per_second()),
            (Metric::Fsync, fsync),
        ])
    }

    /// Both servers run all the time and get their messages in turn, so that whatever else the
    /// machine does concerns both.
    fn keeping(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let tags: Arc<[String]> = tags().into();
        let second = self.directory.join("second");
        std::fs::create_dir(&second)?;
        let keeping = Launch { tags: &tags, ..self.launch() }.start()?;
        let none =
            Launch { tags: &tags, keeps: false, ..Launch::new(self.server, &second) }.start()?;
        let one: Arc<[String]> = [TAG.to_owned()].into();
        let open = |running: &Running| {
            let pid = Some(running.pid());
            let mut session = Session::new(&running.target, Arc::clone(&one), pid, self.interrupt)?;
            session.open(LISTENERS, AT_A_TIME)?;
            anyhow::Ok(session)
        };
        let mut sessions = [open(&keeping)?, open(&none)?];
        let schedule = |time| Schedule::at(&one, 10.0, 1, SIZE, Duration::from_millis(time));
        let mut sums = [0.0; 2];
        for turn in 0..TURNS {
            for (session, sum) in sessions.iter_mut().zip(&mut sums) {
                // Each has slept while the other worked.
                let done = session.deliver(&schedule(500), &schedule(1_000))?;
                if turn > 0 {
                    *sum += done.micros.context("the server is gone")?;
                }
            }
        }
        Ok(vec![(Metric::Keeping, sums[0] / sums[1])])
    }

    fn resume(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let tags = tags();
        let running = Launch { tags: &tags, ..self.launch() }.start()?;
        let clock = Clock::start();
        let target = Arc::clone(&running.target);
        let mut crowd = Crowd::new(target, clock, self.interrupt.clone())?;
        let fresh = |_| Join { tag: TAG.to_owned(), more: String::new() };
        crowd.open(RETURNING, AT_A_TIME, fresh)?;
        crowd.listen(CAUGHT_UP, |tally| tally.live == RETURNING)?;
        let reply = crowd.tally().first_reply.clone().context("nobody was answered")?;
        let live = crowd.tally().first_live.clone().context("nobody is up to date")?;
        let epoch = field(&reply, "epoch").context("an answer without an epoch")?;
        let seq = field(&live, "seq").context("a live event without a seq")?;
        let more = format!(",\"since\":{{\"epoch\":{epoch},\"seq\":{seq}}}");
        crowd.leave()?;
        let probe = Probe::start(&self.errand(&running), self.directory)?;
        crowd.linger(GONE)?;
        let mut publisher = Publisher::connect(&running.target)?;
        for _ in 0..MISSED {
            publisher.publish(&[(TAG, message(clock.now(), SIZE))])?;
        }
        // The probe is over its warm-up then.
        crowd.linger(Duration::from_millis(2_500).saturating_sub(GONE))?;

        let begun = Instant::now();
        let missed = MISSED as u64;
        crowd.come_back(RETURNING, |_| Join { tag: TAG.to_owned(), more: more.clone() })?;
        let all = missed * RETURNING as u64;
        crowd.listen(CAUGHT_UP, |tally| tally.live == RETURNING && tally.messages >= all)?;
        let took = begun.elapsed();
        let reply = crowd.tally().first_reply.clone().context("nobody was answered")?;
        ensure!(reply.contains("\"recovered\":true"), "not recovered: {reply}");
        for (number, got) in crowd.messages().enumerate() {
            ensure!(got == missed, "client {number} got {got} messages of {missed}");
        }
        crowd.linger(self.errand(&running).time.saturating_sub(took))?;
        let seen = probe.finish()?;
        Ok(vec![(Metric::Resume, took.as_secs_f64()), (Metric::ResumeHealthy, millis(seen.p99))])
    }

    fn start(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let tags = tags();
        let data = self.directory.join("data");
        let launch = Launch { tags: &tags, data: Some(&data), ..self.launch() };
        let running = launch.start()?;
        let mut senders = Senders::new(&running.target, plan(32), self.interrupt.clone())?;
        // Those on their way come on top.
        senders.send(|accepted| accepted.sent >= self.entries)?;
        senders.finish()?;
        drop(senders);
        running.program.stop()?;
        let begun = Instant::now();
        let (_running, admin) = launch.start_with_admin()?;
        until_ready(admin, begun, self.interrupt)?;
        Ok(vec![(Metric::Start, begun.elapsed().as_secs_f64())])
    }

    fn launch(&self) -> Launch<'_> {
        Launch::new(self.server, self.directory)
    }

    fn errand(&self, running: &Running) -> Errand<'static> {
        Errand {
            url: running.url(),
            tag: QUIET,
            key_file: running.key_file.clone(),
            ca: None,
            rate: 100,
            time: Duration::from_secs(5),
        }
    }
}

fn tags() -> [String; 2] {
    [TAG.to_owned(), QUIET.to_owned()]
}

fn plan(in_flight: usize) -> Plan {
    Plan {
        way: Way::WebSocket,
        senders: SENDERS,
        in_flight,
        tag: TAG.to_owned(),
        size: SIZE,
        mids: true,
    }
}

/// A field's value as it stands in a small object, a text with its quotes.
fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = object.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let live = r#"{"event":"live","tag":"bench","seq":44}"#;
        assert_eq!(field(live, "seq"), Some("44"));
        assert_eq!(field(r#"{"ok":"set","epoch":"k3","unread":[]}"#, "epoch"), Some("\"k3\""));
        assert_eq!(field(live, "epoch"), None);
    }
}
