//! The figures of all rounds, and what they were taken from.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressStyle};

use crate::machine::Machine;
use crate::metric::Metric;

pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// In the order of the tables: our builds first.
    pub(crate) programs: Vec<Measured>,
}

/// One program's figures.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) role: Role,
    /// One figure a round.
    figures: BTreeMap<Metric, Vec<f64>>,
}

/// Why a program is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of our builds.
    Ours,
    /// Something that does the same job.
    Peer,
    /// Nothing that anyone would use: it shows what the machine takes in any case.
    Floor,
}

impl Results {
    /// The best of the peers in one metric: its name and its median.
    pub(crate) fn best_peer(&self, metric: Metric) -> Option<(&str, f64)> {
        self.programs
            .iter()
            .filter(|program| program.role == Role::Peer)
            .filter_map(|program| Some((program.name.as_str(), program.median(metric)?)))
            .min_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// One program's median.
    pub(crate) fn median_of(&self, name: &str, metric: Metric) -> Option<f64> {
        self.programs.iter().find(|program| program.name == name)?.median(metric)
    }

    /// The build that the goals are about.
    pub(crate) fn ours(&self) -> Option<&Measured> {
        self.programs.iter().find(|program| program.role == Role::Ours)
    }

    /// The metrics that were measured at all.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let was_measured = |metric: &Metric| {
            self.programs.iter().any(|program| program.figures.contains_key(metric))
        };
        Metric::ALL.into_iter().filter(was_measured).collect()
    }
}

impl Measured {
    pub(crate) fn new(name: &str, version: String, role: Role) -> Self {
        Self { name: name.to_owned(), version, role, figures: BTreeMap::new() }
    }

    /// The middle one of the rounds' figures.
    pub(crate) fn median(&self, metric: Metric) -> Option<f64> {
        let mut figures = self.figures.get(&metric)?.clone();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        if figures.len().is_multiple_of(2) {
            Some(f64::midpoint(*figures.get(middle.checked_sub(1)?)?, *figures.get(middle)?))
        } else {
            figures.get(middle).copied()
        }
    }

    /// The highest of the rounds' figures.
    pub(crate) fn worst(&self, metric: Metric) -> Option<f64> {
        self.figures.get(&metric)?.iter().copied().max_by(f64::total_cmp)
    }

    /// Half the distance between the rounds' extremes, relative to the median.
    pub(crate) fn spread(&self, metric: Metric) -> Option<f64> {
        let figures = self.figures.get(&metric)?;
        let most = figures.iter().copied().max_by(f64::total_cmp)?;
        let least = figures.iter().copied().min_by(f64::total_cmp)?;
        Some((most - least) / 2.0 / self.median(metric)?)
    }
}

/// Rounds under way: what has been measured, and a bar for who waits for the rest.
pub(crate) struct Rounds {
    programs: Vec<Measured>,
    bar: ProgressBar,
}

impl Rounds {
    pub(crate) fn new(programs: Vec<Measured>, steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed_precise} [{bar:32}] {pos}/{len} {msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { programs, bar }
    }

    pub(crate) fn step(&self, about: String) {
        self.bar.set_message(about);
    }

    /// The step is done.
    pub(crate) fn record(
        &mut self,
        program: usize,
        figures: impl IntoIterator<Item = (Metric, f64)>,
    ) {
        if let Some(program) = self.programs.get_mut(program) {
            for (metric, figure) in figures {
                program.figures.entry(metric).or_default().push(figure);
            }
        }
        self.bar.inc(1);
    }

    pub(crate) fn finish(self) -> Results {
        self.bar.finish_and_clear();
        Results { machine: Machine::this(), programs: self.programs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_counts() {
        let mut rounds = Rounds::new(vec![Measured::new("x", String::new(), Role::Peer)], 4);
        for figure in [9.0, 1.0, 2.0] {
            rounds.record(0, [(Metric::Handshake, figure)]);
        }
        let program = &rounds.programs[0];
        assert_eq!(program.median(Metric::Handshake), Some(2.0));
        assert_eq!(program.spread(Metric::Handshake), Some(2.0));
        assert_eq!(program.median(Metric::Bulk), None);
        rounds.record(0, [(Metric::Handshake, 3.0)]);
        assert_eq!(rounds.programs[0].median(Metric::Handshake), Some(2.5));
        assert_eq!(rounds.finish().best_peer(Metric::Handshake), Some(("x", 2.5)));
    }
}
