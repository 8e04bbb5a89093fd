//! The figures of all rounds, the programs that they belong to, and whether they meet the goals.

use std::collections::BTreeMap;
use std::fmt;

use super::figure::{Bound, Figure, Figures, Goal, figure, figures, sections};

pub(crate) struct Results {
    /// The programs in the order of the tables: our builds first.
    pub(crate) subjects: Vec<Subject>,
}

/// A program and its figures.
pub(crate) struct Subject {
    pub(crate) name: String,
    /// The kind of the program: `ours`, or the option of a peer.
    pub(crate) kind: &'static str,
    pub(crate) version: String,
    pub(crate) role: Role,
    /// By the ID of a figure: one value for each round.
    figures: BTreeMap<&'static str, Vec<f64>>,
}

/// The role of a program in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A build of ours.
    Ours,
    /// A program of somebody else that does the same job.
    Peer,
    /// A program that nobody would use. It shows what the machine itself costs.
    Floor,
}

impl Results {
    /// Returns results that contain no figure yet.
    pub(crate) fn new(subjects: Vec<Subject>) -> Self {
        Self { subjects }
    }

    /// Adds the figures of one program in one round.
    pub(crate) fn record(&mut self, subject: usize, figures: Figures) {
        for (id, value) in figures {
            let id = figure(id).id.as_str();
            self.subjects[subject].figures.entry(id).or_default().extend(value);
        }
    }

    /// Returns the name of the peer with the lowest median of a figure, and this median.
    pub(crate) fn best_peer(&self, figure: &Figure) -> Option<(&str, f64)> {
        self.subjects
            .iter()
            .filter(|subject| subject.role == Role::Peer)
            .filter_map(|subject| Some((subject.name.as_str(), subject.median(figure)?)))
            .min_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// Returns the median of the program with this name.
    pub(crate) fn median_of(&self, name: &str, figure: &Figure) -> Option<f64> {
        self.subjects.iter().find(|subject| subject.name == name)?.median(figure)
    }

    /// Returns the build that the goals are about: the first of ours.
    pub(crate) fn ours(&self) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.role == Role::Ours)
    }

    /// Returns the figures that were measured for at least one program.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &'static Figure> {
        figures().filter(|figure| self.subjects.iter().any(|it| it.median(figure).is_some()))
    }
}

impl Subject {
    pub(crate) fn new(name: String, kind: &'static str, version: String, role: Role) -> Self {
        Self { name, kind, version, role, figures: BTreeMap::new() }
    }

    /// Returns the figures of all rounds, the lowest first.
    fn sorted(&self, figure: &Figure) -> Option<Vec<f64>> {
        let mut sorted =
            self.figures.get(figure.id.as_str()).filter(|all| !all.is_empty())?.clone();
        sorted.sort_by(f64::total_cmp);
        Some(sorted)
    }

    /// Returns the median of the rounds' figures.
    pub(crate) fn median(&self, figure: &Figure) -> Option<f64> {
        let sorted = self.sorted(figure)?;
        Some(f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]))
    }

    /// Returns the highest of the rounds' figures.
    pub(crate) fn worst(&self, figure: &Figure) -> Option<f64> {
        self.sorted(figure)?.last().copied()
    }

    /// Returns half the difference between the highest and the lowest round, divided by the median.
    pub(crate) fn spread(&self, figure: &Figure) -> Option<f64> {
        let sorted = self.sorted(figure)?;
        Some((sorted.last()? - sorted.first()?) / 2.0 / self.median(figure)?)
    }
}

/// One goal and the figure that it is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    about: String,
    figure: f64,
    most: f64,
    shown: String,
}

impl Verdict {
    /// Whether the goal is met. A figure that could not be computed meets no goal.
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

/// Returns a verdict on each goal for which our first build has figures.
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
                // With both signs changed, "at least" becomes "at most".
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

    #[test]
    fn the_middle_one_counts() {
        let mut rounds =
            Results::new(vec![Subject::new("x".to_owned(), "x", String::new(), Role::Peer)]);
        for value in [9.0, 1.0, 2.0] {
            rounds.record(0, vec![("handshake", Some(value))]);
        }
        let subject = &rounds.subjects[0];
        assert_eq!(subject.median(figure("handshake")), Some(2.0));
        assert_eq!(subject.spread(figure("handshake")), Some(2.0));
        assert_eq!(subject.median(figure("bulk")), None);
        rounds.record(0, vec![("handshake", Some(3.0))]);
        assert_eq!(rounds.subjects[0].median(figure("handshake")), Some(2.5));
        assert_eq!(rounds.best_peer(figure("handshake")), Some(("x", 2.5)));
    }

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
