//! Goals, and whether they are met.

use std::fmt;

use crate::metric::Metric;
use crate::results::Results;

/// What a figure of the first of our builds should be.
struct Goal {
    metric: Metric,
    bound: Bound,
}

enum Bound {
    /// At most.
    Most(f64),
    /// At most, in every round.
    Always(f64),
    /// At least.
    Least(f64),
    /// At most so many times the best peer's.
    BestPeer(f64),
    /// At most so many times that of one program.
    Program(&'static str, f64),
    /// At most so many times our own figure of another metric.
    Own(Metric, f64),
}

/// Microseconds of a core for each of 20,000 a second.
const OF_20_000: f64 = 1e6 / 20_000.0;

#[rustfmt::skip]
const GOALS: &[Goal] = &[
    // The gate.
    Goal { metric: Metric::Handshake, bound: Bound::BestPeer(0.35) },
    Goal { metric: Metric::RoundTrip, bound: Bound::BestPeer(0.65) },
    Goal { metric: Metric::Bulk, bound: Bound::BestPeer(0.50) },
    Goal { metric: Metric::Idle, bound: Bound::BestPeer(0.50) },
    Goal { metric: Metric::Idle, bound: Bound::Most(9_000.0) },
    Goal { metric: Metric::Growth, bound: Bound::Most(1.1) },
    Goal { metric: Metric::Kept, bound: Bound::Most(0.5) },
    Goal { metric: Metric::AmongSlow, bound: Bound::Most(2.0) },
    // The server.
    Goal { metric: Metric::Delivery, bound: Bound::Program("floor", 1.15) },
    Goal { metric: Metric::Delivery, bound: Bound::Program("uWebSockets", 1.0) },
    Goal { metric: Metric::Delivery, bound: Bound::Program("nchan", 0.75) },
    Goal { metric: Metric::Burst, bound: Bound::Program("uWebSockets", 1.0) },
    Goal { metric: Metric::Join, bound: Bound::Program("uWebSockets", 1.2) },
    Goal { metric: Metric::Listener, bound: Bound::Most(2_000.0) },
    Goal { metric: Metric::HotTag, bound: Bound::Program("uWebSockets", 1.3) },
    Goal { metric: Metric::QuietTag, bound: Bound::Most(20.0) },
    Goal { metric: Metric::Post, bound: Bound::Most(OF_20_000) },
    Goal { metric: Metric::Delivery10k, bound: Bound::Own(Metric::Delivery, 1.15) },
    Goal { metric: Metric::Delivery19k, bound: Bound::Own(Metric::Delivery, 1.15) },
    Goal { metric: Metric::StormHealthy, bound: Bound::Always(100.0) },
    // What is kept.
    Goal { metric: Metric::Durable, bound: Bound::Least(20_000.0) },
    Goal { metric: Metric::DurableLate, bound: Bound::Most(20.0) },
    Goal { metric: Metric::Keeping, bound: Bound::Most(1.05) },
    Goal { metric: Metric::Resume, bound: Bound::Most(5.0) },
    Goal { metric: Metric::ResumeHealthy, bound: Bound::Most(100.0) },
    Goal { metric: Metric::Start, bound: Bound::Most(5.0) },
    // Servers that share a log.
    Goal { metric: Metric::NatsLatency, bound: Bound::Most(2.0) },
    Goal { metric: Metric::NatsServers, bound: Bound::Most(1.1) },
    Goal { metric: Metric::NatsStart, bound: Bound::Most(10.0) },
];

/// One goal and the figure that it is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    about: String,
    figure: f64,
    most: f64,
    shown: String,
}

impl Verdict {
    pub(crate) fn new(about: String, figure: f64, most: f64, shown: String) -> Self {
        Self { about, figure, most, shown }
    }

    /// A figure that could not be computed meets nothing.
    pub(crate) fn is_met(&self) -> bool {
        self.figure <= self.most
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_met() { "met" } else { "MISSED" };
        write!(f, "{word}: {}: {}", self.about, self.shown)
    }
}

/// The goals of the first of our builds, as far as they were measured.
pub(crate) fn judge(results: &Results) -> Vec<Verdict> {
    GOALS.iter().filter_map(|goal| goal.judge(results)).collect()
}

impl Goal {
    fn judge(&self, results: &Results) -> Option<Verdict> {
        let metric = self.metric;
        let figure = results.ours()?.median(metric)?;
        let (other, base, most) = match self.bound {
            Bound::Always(most) => {
                let worst = results.ours()?.worst(metric)?;
                let shown = format!("{} at worst, goal {}", metric.show(worst), metric.show(most));
                return Some(Verdict::new(metric.title().to_owned(), worst, most, shown));
            }
            Bound::Most(most) => {
                let shown = format!("{}, goal {}", metric.show(figure), metric.show(most));
                return Some(Verdict::new(metric.title().to_owned(), figure, most, shown));
            }
            Bound::Least(least) => {
                let shown = format!("{}, goal {}", metric.show(figure), metric.show(least));
                // As many times more as must not be needed.
                return Some(Verdict::new(metric.title().to_owned(), least / figure, 1.0, shown));
            }
            Bound::BestPeer(most) => {
                let (name, base) = results.best_peer(metric)?;
                (name, base, most)
            }
            Bound::Program(name, most) => (name, results.median_of(name, metric)?, most),
            Bound::Own(other, most) => (other.title(), results.ours()?.median(other)?, most),
        };
        let ratio = figure / base;
        let shown = format!(
            "{ratio:.2} × {other} ({} to {}), goal {most:.2}",
            metric.show(figure),
            metric.show(base)
        );
        Some(Verdict::new(metric.title().to_owned(), ratio, most, shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Measured, Role, Rounds};

    #[test]
    fn what_is_not_a_number_meets_no_goal() {
        let verdict = |figure| Verdict::new("x".to_owned(), figure, 0.5, "y".to_owned());
        assert!(verdict(0.5).is_met());
        assert!(!verdict(0.51).is_met());
        assert!(!verdict(f64::NAN).is_met());
        assert_eq!(verdict(0.6).to_string(), "MISSED: x: y");
    }

    #[test]
    fn every_round_counts_where_one_is_too_much() {
        let server = Measured::new("server", String::new(), Role::Ours);
        let mut rounds = Rounds::new(vec![server], 3);
        for figure in [10.0, 101.0, 20.0] {
            rounds.record(0, [(Metric::StormHealthy, figure)]);
        }
        let said: Vec<String> = judge(&rounds.finish()).iter().map(Verdict::to_string).collect();
        assert_eq!(said, ["MISSED: storm, healthy client: 101.0 ms at worst, goal 100.0 ms"]);
    }

    #[test]
    fn more_can_be_better() {
        let durable = |figure| {
            let server = Measured::new("server", String::new(), Role::Ours);
            let mut rounds = Rounds::new(vec![server], 1);
            rounds.record(0, [(Metric::Durable, figure)]);
            judge(&rounds.finish()).first().map(Verdict::to_string)
        };
        assert_eq!(durable(20_000.0).as_deref(), Some("met: on disk: 20000/s, goal 20000/s"));
        assert_eq!(durable(19_999.0).as_deref(), Some("MISSED: on disk: 19999/s, goal 20000/s"));
    }

    #[test]
    fn goals_are_about_what_was_measured() {
        let program = |name, role| Measured::new(name, String::new(), role);
        let mut rounds = Rounds::new(
            vec![
                program("server", Role::Ours),
                program("uWebSockets", Role::Peer),
                program("floor", Role::Floor),
            ],
            4,
        );
        rounds.record(0, [(Metric::Delivery, 6.0), (Metric::Delivery10k, 6.6)]);
        rounds.record(1, [(Metric::Delivery, 7.0)]);
        rounds.record(2, [(Metric::Delivery, 5.0)]);
        let said: Vec<String> = judge(&rounds.finish()).iter().map(Verdict::to_string).collect();
        assert_eq!(
            said,
            [
                "MISSED: delivery: 1.20 × floor (6.00 µs to 5.00 µs), goal 1.15",
                "met: delivery: 0.86 × uWebSockets (6.00 µs to 7.00 µs), goal 1.00",
                "met: delivery, 10,000: 1.10 × delivery (6.60 µs to 6.00 µs), goal 1.15",
            ]
        );
    }
}
