//! The figures of all rounds, and what they were taken from.

use std::collections::BTreeMap;

use super::figure::{Figure, Figures, figure, figures};

pub(crate) struct Results {
    /// In the order of the tables: our builds first.
    pub(crate) subjects: Vec<Subject>,
}

/// A program and its figures.
pub(crate) struct Subject {
    pub(crate) name: String,
    /// `ours`, or the option of a peer.
    pub(crate) kind: &'static str,
    pub(crate) version: String,
    pub(crate) role: Role,
    /// One figure a round, by the ID.
    figures: BTreeMap<&'static str, Vec<f64>>,
}

/// Why a program is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of our builds.
    Ours,
    /// Something that does the same job.
    Peer,
    /// Nothing that anyone would use: it shows what the machine itself costs.
    Floor,
}

impl Results {
    /// Without any figure yet.
    pub(crate) fn new(subjects: Vec<Subject>) -> Self {
        Self { subjects }
    }

    /// Adds the figures of a round of one program.
    pub(crate) fn record(&mut self, subject: usize, figures: Figures) {
        for (id, value) in figures {
            let id = figure(id).id.as_str();
            self.subjects[subject].figures.entry(id).or_default().extend(value);
        }
    }

    /// The peer with the lowest median of a figure: its name and that median.
    pub(crate) fn best_peer(&self, figure: &Figure) -> Option<(&str, f64)> {
        self.subjects
            .iter()
            .filter(|subject| subject.role == Role::Peer)
            .filter_map(|subject| Some((subject.name.as_str(), subject.median(figure)?)))
            .min_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// One program's median.
    pub(crate) fn median_of(&self, name: &str, figure: &Figure) -> Option<f64> {
        self.subjects.iter().find(|subject| subject.name == name)?.median(figure)
    }

    /// The build that the goals are about.
    pub(crate) fn ours(&self) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.role == Role::Ours)
    }

    /// The figures that were measured for any of the programs.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &'static Figure> {
        figures().filter(|figure| self.subjects.iter().any(|it| it.median(figure).is_some()))
    }
}

impl Subject {
    pub(crate) fn new(name: String, kind: &'static str, version: String, role: Role) -> Self {
        Self { name, kind, version, role, figures: BTreeMap::new() }
    }

    /// The rounds' figures, the lowest first.
    fn sorted(&self, figure: &Figure) -> Option<Vec<f64>> {
        let mut sorted =
            self.figures.get(figure.id.as_str()).filter(|all| !all.is_empty())?.clone();
        sorted.sort_by(f64::total_cmp);
        Some(sorted)
    }

    /// The middle one of the rounds' figures.
    pub(crate) fn median(&self, figure: &Figure) -> Option<f64> {
        let sorted = self.sorted(figure)?;
        Some(f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]))
    }

    /// The highest of the rounds' figures.
    pub(crate) fn worst(&self, figure: &Figure) -> Option<f64> {
        self.sorted(figure)?.last().copied()
    }

    /// Half the distance between the rounds' extremes, relative to the median.
    pub(crate) fn spread(&self, figure: &Figure) -> Option<f64> {
        let sorted = self.sorted(figure)?;
        Some((sorted.last()? - sorted.first()?) / 2.0 / self.median(figure)?)
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
}
