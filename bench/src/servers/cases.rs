//! What is measured of one server in one round.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use super::probe::{Errand, Probe};
use super::start::{Kind, Places, Running, start};
use crate::load::answers::Way;
use crate::load::broadcast::Schedule;
use crate::load::interrupt::Interrupt;
use crate::load::senders::Plan;
use crate::load::session::{Delivered, Session};
use crate::metric::{Metric, millis};
use crate::{publish, storm};

const TAG: &str = "bench";
const QUIET: &str = "bench-quiet";

/// Bytes of a message.
const SIZE: usize = 125;

/// Connections on their way at a time: with fewer, a program sleeps and wakes for each, which
/// costs CPU too.
const AT_A_TIME: usize = 16;

/// Connections that come and go before those whose cost counts.
const FIRST: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// 2,000 listeners: joining, deliveries one by one, deliveries in bursts
    Delivery,
    /// 15,000 listeners in a fresh process: memory; for ours and uWebSockets also a hot tag, and
    /// a quiet one meanwhile
    Crowd,
    /// 10,000 and 19,000 listeners; ours, uWebSockets and the floor
    Scale,
    /// 64 senders
    Publish,
    /// Ours when 10,000 clients come back at once
    Storm,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delivery => "delivery",
            Self::Crowd => "crowd",
            Self::Scale => "scale",
            Self::Publish => "publish",
            Self::Storm => "storm",
        })
    }
}

impl Case {
    pub(crate) const ALL: [Self; 5] =
        [Self::Delivery, Self::Crowd, Self::Scale, Self::Publish, Self::Storm];

    /// Listeners at once, each of which takes an open file here and in the server.
    pub(crate) fn listeners(self) -> usize {
        match self {
            Self::Delivery => 2_000,
            Self::Crowd => 15_000,
            Self::Scale => 19_000,
            Self::Publish => 64,
            Self::Storm => 10_000,
        }
    }

    /// Whether there is something to compare with in that kind of server, or something to learn.
    pub(crate) fn concerns(self, kind: Kind) -> bool {
        match self {
            Self::Delivery => true,
            Self::Crowd => kind != Kind::Floor,
            Self::Scale => matches!(kind, Kind::Server | Kind::Uws | Kind::Floor),
            Self::Storm => kind == Kind::Server,
            Self::Publish => matches!(kind, Kind::Server | Kind::Uws | Kind::Nchan),
        }
    }

    /// Measures it with a process started for this alone.
    ///
    /// # Errors
    /// Whatever went wrong with a connection or the program.
    pub(crate) fn measure(
        self,
        kind: Kind,
        places: &Places,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Vec<(Metric, f64)>> {
        let tags = [TAG.to_owned(), QUIET.to_owned()];
        let stage = Stage { kind, places, running: start(kind, places, &tags)?, interrupt };
        match self {
            Self::Delivery => stage.delivery(),
            Self::Crowd => stage.crowd(),
            Self::Scale => stage.scale(),
            Self::Publish => stage.publish(),
            Self::Storm => stage.storm(),
        }
    }
}

/// A server that runs for one case.
struct Stage<'a> {
    kind: Kind,
    places: &'a Places,
    running: Running,
    interrupt: &'a Interrupt,
}

impl Stage<'_> {
    fn session(&self) -> anyhow::Result<Session> {
        let pid = Some(self.running.pid());
        Session::new(&self.running.target, tags(), pid, self.interrupt)
    }

    fn delivery(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        self.session()?.open(FIRST, AT_A_TIME)?;
        let mut session = self.session()?;
        let mut figures = Vec::new();
        let opened = session.open(Case::Delivery.listeners(), AT_A_TIME)?;
        figures.extend(opened.micros.map(|micros| (Metric::Join, micros)));
        let one_by_one = session.deliver(&at(10.0, 1, 2), &at(10.0, 1, 3))?;
        figures.extend(one_by_one.micros.map(|micros| (Metric::Delivery, micros)));
        figures.push((Metric::DeliveryLate, p99(&one_by_one)));
        let bursts = session.deliver(&at(16.0, 16, 1), &at(16.0, 16, 4))?;
        figures.extend(bursts.micros.map(|micros| (Metric::Burst, micros)));
        Ok(figures)
    }

    fn crowd(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let mut session = self.session()?;
        let mut figures = Vec::new();
        let opened = session.open(Case::Crowd.listeners(), AT_A_TIME)?;
        figures.extend(opened.bytes.map(|bytes| (Metric::Listener, bytes)));
        if !matches!(self.kind, Kind::Server | Kind::Uws) {
            return Ok(figures);
        }
        // 500 messages, between the first and the last of the hot tag.
        let probe = Probe::start(&self.errand(5), &self.places.directory)?;
        let hot = session.deliver(&at(2.0, 1, 2), &at(2.0, 1, 6))?;
        let quiet = probe.finish()?;
        figures.extend(hot.micros.map(|micros| (Metric::HotDelivery, micros)));
        figures.push((Metric::HotTag, p99(&hot)));
        figures.push((Metric::QuietTag, millis(quiet.p99)));
        Ok(figures)
    }

    fn scale(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let mut session = self.session()?;
        let mut figures = Vec::new();
        session.open(10_000, AT_A_TIME)?;
        let some = session.deliver(&at(3.0, 1, 1), &at(3.0, 1, 4))?;
        figures.extend(some.micros.map(|micros| (Metric::Delivery10k, micros)));
        session.open(Case::Scale.listeners() - 10_000, AT_A_TIME)?;
        let many = session.deliver(&at(2.0, 1, 1), &at(2.0, 1, 4))?;
        figures.extend(many.micros.map(|micros| (Metric::Delivery19k, micros)));
        Ok(figures)
    }

    fn publish(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let ways: &[(Way, Metric)] = match self.kind {
            Kind::Server => &[(Way::Post, Metric::Post), (Way::WebSocket, Metric::OverSocket)],
            Kind::Nchan => &[(Way::Post, Metric::Post)],
            Kind::Uws | Kind::Ws | Kind::Floor => &[(Way::WebSocket, Metric::OverSocket)],
        };
        let mut figures = Vec::new();
        for (way, metric) in ways {
            let plan = Plan {
                way: *way,
                senders: Case::Publish.listeners(),
                in_flight: 1,
                tag: TAG.to_owned(),
                size: SIZE,
                mids: true,
            };
            let times = (Duration::from_millis(500), Duration::from_secs(2));
            let pid = Some(self.running.pid());
            let taken = publish::measure(&self.running.target, plan, pid, times, self.interrupt)?;
            figures.extend(taken.micros.map(|micros| (*metric, micros)));
        }
        Ok(figures)
    }

    fn storm(&self) -> anyhow::Result<Vec<(Metric, f64)>> {
        let stormed = storm::measure(
            &self.running.target,
            Some(self.running.pid()),
            (TAG, Case::Storm.listeners()),
            &self.errand(6),
            &self.places.directory,
            self.interrupt,
        )?;
        Ok(vec![
            (Metric::StormBack, stormed.took.as_secs_f64()),
            (Metric::StormHealthy, millis(stormed.seen.max)),
        ])
    }

    fn errand(&self, seconds: u64) -> Errand<'static> {
        Errand {
            url: self.running.url(),
            tag: QUIET,
            key_file: self.running.key_file.clone(),
            ca: None,
            rate: 100,
            time: Duration::from_secs(seconds),
        }
    }
}

fn tags() -> Arc<[String]> {
    [TAG.to_owned()].into()
}

fn at(rate: f64, burst: usize, seconds: u64) -> Schedule {
    Schedule::at(&tags(), rate, burst, SIZE, Duration::from_secs(seconds))
}

fn p99(delivered: &Delivered) -> f64 {
    millis(delivered.latencies.value_at_quantile(0.99))
}
