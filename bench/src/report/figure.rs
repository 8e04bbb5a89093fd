//! The figures of the page. `figures.toml` contains their names, units, notes and goals.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;

/// The figures of one program in one round, each with its ID. A figure that does not exist for this
/// program is `None`.
pub(crate) type Figures = Vec<(&'static str, Option<f64>)>;

/// A section of the page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    pub(crate) id: String,
    pub(crate) heading: String,
    /// The path of the chart, relative to the page; `None` for a section that compares nothing.
    pub(crate) chart: Option<String>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) goals: Vec<Goal>,
    cases: BTreeMap<String, CaseData>,
    /// How the figures were measured. Names in braces stand for values of the run.
    pub(crate) how: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseData {
    pub(crate) help: String,
    /// The kinds of programs that the note concerns; `None` means all.
    pub(crate) only: Option<Vec<String>>,
}

/// One kind of figure.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figure {
    pub(crate) id: String,
    pub(crate) name: String,
    unit: Unit,
    pub(crate) note: String,
    /// Whether the figure is compared with that of the best peer. Then less is better.
    #[serde(default = "compared")]
    pub(crate) compared: bool,
}

/// The unit in which a figure is shown.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Unit {
    /// Microseconds with this number of decimals.
    Micros(usize),
    Millis,
    Seconds,
    Bytes,
    Times,
    Percent,
    PerSecond,
    /// The CPU time of one operation in microseconds, shown with the number of operations that a
    /// core can do in a second.
    PerCore,
}

/// A bound for a figure of the first of our builds.
#[derive(Debug, Deserialize)]
pub(crate) struct Goal {
    pub(super) figure: String,
    #[serde(flatten)]
    pub(super) bound: Bound,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    /// The largest permitted median of the rounds.
    Most(f64),
    /// The largest permitted figure of each round.
    EveryRound(f64),
    /// At least this, as the median of the rounds.
    Least(f64),
    /// At most this many times the figure of the best peer.
    BestPeer(f64),
    /// At most this many times the figure of the named program.
    Program(String, f64),
    /// The largest permitted ratio to the named figure of our own program.
    OwnFigure(String, f64),
}

#[derive(Deserialize)]
struct Data {
    section: Vec<Section>,
}

static DATA: LazyLock<Data> = LazyLock::new(|| {
    toml::from_str(include_str!("../../figures.toml")).expect("figures.toml is valid")
});

fn compared() -> bool {
    true
}

/// Returns all sections in the order of the page.
pub(crate) fn sections() -> &'static [Section] {
    &DATA.section
}

pub(crate) fn section(id: &str) -> &'static Section {
    sections().iter().find(|section| section.id == id).expect("figures.toml has every section")
}

/// Returns all figures in the order of the tables.
pub(crate) fn figures() -> impl Iterator<Item = &'static Figure> {
    sections().iter().flat_map(|section| &section.figures)
}

pub(crate) fn figure(id: &str) -> &'static Figure {
    figures().find(|figure| figure.id == id).expect("figures.toml has every figure")
}

impl Section {
    pub(crate) fn case(&self, name: &str) -> &CaseData {
        self.cases.get(name).expect("figures.toml has every case")
    }
}

impl Figure {
    /// Returns `figure` as text with its unit.
    pub(crate) fn show(&self, figure: f64) -> String {
        match self.unit {
            Unit::Micros(decimals) => format!("{figure:.decimals$} µs"),
            Unit::Millis => format!("{figure:.1} ms"),
            Unit::Seconds => format!("{figure:.2} s"),
            Unit::Bytes if figure < 1_000.0 => format!("{figure:.0} B"),
            Unit::Bytes => format!("{:.1} KB", figure / 1_000.0),
            Unit::PerSecond => format!("{figure:.0}/s"),
            Unit::Times => format!("{figure:.2} ×"),
            Unit::Percent => format!("{:.0} %", figure * 100.0),
            Unit::PerCore => format!("{figure:.1} µs, {:.0}/s", 1e6 / figure),
        }
    }
}

/// Converts nanoseconds to milliseconds, as [`Unit::Millis`] expects them.
pub(crate) fn millis(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(figure("delivery").show(5.283), "5.28 µs");
        assert_eq!(figure("idle-listener").show(1_699.0), "1.7 KB");
        assert_eq!(figure("idle-listener").show(512.0), "512 B");
        assert_eq!(figure("post").show(20.0), "20.0 µs, 50000/s");
        assert_eq!(figure("kept").show(0.5), "50 %");
    }

    #[test]
    fn every_figure_and_section_is_described_once() {
        let all: Vec<&str> = figures().map(|figure| figure.id.as_str()).collect();
        assert!(all.iter().enumerate().all(|(number, figure)| !all[..number].contains(figure)));
        let ids = sections().iter().map(|section| section.id.as_str());
        assert!(ids.eq(["gate", "server", "delivery", "cluster"]));
        for goal in sections().iter().flat_map(|section| &section.goals) {
            let mut named = vec![&goal.figure];
            if let Bound::OwnFigure(other, _) = &goal.bound {
                named.push(other);
            }
            assert!(named.iter().all(|figure| all.contains(&figure.as_str())), "{goal:?}");
        }
    }
}
