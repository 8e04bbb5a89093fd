//! Goals, and whether they are met.

use std::fmt;

use super::figure::{Bound, Goal, figure, sections};
use super::results::Results;

/// One goal and the figure that it is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    about: String,
    figure: f64,
    most: f64,
    shown: String,
}

impl Verdict {
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

/// The goals of the first of our builds whose figures were measured.
pub(crate) fn judge(results: &Results) -> Vec<Verdict> {
    let goals = sections().iter().flat_map(|section| &section.goals);
    goals.filter_map(|goal| goal.judge(results)).collect()
}

impl Goal {
    fn judge(&self, results: &Results) -> Option<Verdict> {
        let (about, ours) = (figure(&self.figure), results.ours()?);
        let median = ours.median(about)?;
        let absolute = |value: f64, worst: &str, goal: f64| {
            let shown = format!("{}{worst}, goal {}", about.show(value), about.show(goal));
            Verdict { about: about.name.clone(), figure: value, most: goal, shown }
        };
        let (other, base, most) = match &self.bound {
            Bound::Most(most) => return Some(absolute(median, "", *most)),
            Bound::EveryRound(most) => {
                return Some(absolute(ours.worst(about)?, " at worst", *most));
            }
            Bound::Least(least) => {
                // With the signs changed, at least is at most.
                let (figure, most) = (-median, -least);
                return Some(Verdict { figure, most, ..absolute(median, "", *least) });
            }
            Bound::BestPeer(most) => {
                let (name, base) = results.best_peer(about)?;
                (name, base, most)
            }
            Bound::Program(name, most) => (name.as_str(), results.median_of(name, about)?, most),
            Bound::OwnFigure(other, most) => {
                let other = figure(other);
                (other.name.as_str(), ours.median(other)?, most)
            }
        };
        let ratio = median / base;
        let (ours, base) = (about.show(median), about.show(base));
        let shown = format!("{ratio:.2} × {other} ({ours} to {base}), goal {most:.2}");
        Some(Verdict { about: about.name.clone(), figure: ratio, most: *most, shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::{Role, Subject};

    #[test]
    fn what_is_not_a_number_meets_no_goal() {
        let verdict =
            |figure| Verdict { about: "x".to_owned(), figure, most: 0.5, shown: "y".to_owned() };
        assert!(verdict(0.5).is_met());
        assert!(!verdict(0.51).is_met());
        assert!(!verdict(f64::NAN).is_met());
        assert_eq!(verdict(0.6).to_string(), "MISSED: x: y");
    }

    #[test]
    fn every_round_counts_where_one_is_too_much() {
        let server = Subject::new("server".to_owned(), "ours", String::new(), Role::Ours);
        let mut rounds = Results::new(vec![server]);
        for figure in [10.0, 101.0, 20.0] {
            rounds.record(0, vec![("storm-healthy", Some(figure))]);
        }
        let said: Vec<String> = judge(&rounds).iter().map(Verdict::to_string).collect();
        assert_eq!(said, ["MISSED: storm, healthy client: 101.0 ms at worst, goal 100.0 ms"]);
    }

    #[test]
    fn more_can_be_better() {
        let durable = |figure| {
            let server = Subject::new("server".to_owned(), "ours", String::new(), Role::Ours);
            let mut rounds = Results::new(vec![server]);
            rounds.record(0, vec![("durable", Some(figure))]);
            judge(&rounds).first().map(Verdict::to_string)
        };
        assert_eq!(durable(20_000.0).as_deref(), Some("met: on disk: 20000/s, goal 20000/s"));
        assert_eq!(durable(19_999.0).as_deref(), Some("MISSED: on disk: 19999/s, goal 20000/s"));
    }

    #[test]
    fn goals_are_about_what_was_measured() {
        let program = |name: &str, role| Subject::new(name.to_owned(), "", String::new(), role);
        let mut rounds = Results::new(vec![
            program("server", Role::Ours),
            program("uWebSockets", Role::Peer),
            program("floor", Role::Floor),
        ]);
        rounds.record(0, vec![("delivery", Some(6.0)), ("delivery10k", Some(6.6))]);
        rounds.record(1, vec![("delivery", Some(7.0))]);
        rounds.record(2, vec![("delivery", Some(5.0))]);
        let said: Vec<String> = judge(&rounds).iter().map(Verdict::to_string).collect();
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
