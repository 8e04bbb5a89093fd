//! The figures: `figures.toml` has their names, units, notes and goals.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde::Deserialize;

/// One kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    Handshake,
    Resumed,
    RoundTrip,
    Bulk,
    Idle,
    Growth,
    Kept,
    AmongSlow,

    Delivery,
    DeliveryLate,
    Burst,
    Join,
    IdleListener,
    HotTag,
    HotDelivery,
    QuietTag,
    Delivery10k,
    Delivery19k,
    Post,
    OverWebSocket,
    Storm,
    StormHealthy,

    Durable,
    DurableLate,
    DurableHere,
    Fsync,
    Keeping,
    Resume,
    ResumeHealthy,
    Start,

    NatsLatency,
    NatsDelivery,
    NatsServers,
    NatsRate,
    NatsStart,
}

/// What was measured in one round.
pub(crate) type Figures = Vec<(Figure, f64)>;

/// A section of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Section {
    Gate,
    Server,
    Delivery,
    Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SectionData {
    pub(crate) id: Section,
    pub(crate) heading: String,
    /// Relative to the page. A section that compares nothing has none.
    pub(crate) chart: Option<String>,
    pub(crate) figures: Vec<FigureData>,
    pub(crate) goals: Vec<Goal>,
    cases: BTreeMap<String, CaseData>,
    /// How it was measured, with names in braces for values of the run.
    pub(crate) how: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseData {
    pub(crate) help: String,
    /// The kinds of programs that it concerns; `None` means all.
    pub(crate) only: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FigureData {
    id: Figure,
    pub(crate) name: String,
    unit: Unit,
    pub(crate) note: String,
    /// Whether less than the best peer's is better; other figures stand for themselves.
    #[serde(default = "compared")]
    pub(crate) compared: bool,
}

/// How a figure is shown.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Unit {
    /// With this many decimals.
    Micros(usize),
    Millis,
    Seconds,
    Bytes,
    Times,
    Percent,
    PerSecond,
    /// CPU of one operation in microseconds, and how many of them a core can do in a second.
    PerCore,
}

/// A bound for a figure of the first of our builds.
#[derive(Debug, Deserialize)]
pub(crate) struct Goal {
    pub(super) figure: Figure,
    #[serde(flatten)]
    pub(super) bound: Bound,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    /// At most this, as the median of the rounds.
    Most(f64),
    /// At most this in each of the rounds.
    EveryRound(f64),
    /// At least this.
    Least(f64),
    /// At most this many times the best peer's.
    BestPeer(f64),
    /// At most this many times that of the named program.
    Program(String, f64),
    /// At most this many times our own other figure.
    OwnFigure(Figure, f64),
}

#[derive(Deserialize)]
struct Data {
    section: Vec<SectionData>,
}

static DATA: LazyLock<Data> = LazyLock::new(|| {
    toml::from_str(include_str!("../../figures.toml")).expect("figures.toml is valid")
});

fn compared() -> bool {
    true
}

/// All sections, in their order.
pub(crate) fn sections() -> &'static [SectionData] {
    &DATA.section
}

impl Section {
    pub(crate) fn data(self) -> &'static SectionData {
        sections().iter().find(|data| data.id == self).expect("figures.toml has every section")
    }

    pub(crate) fn case(self, name: &str) -> &'static CaseData {
        self.data().cases.get(name).expect("figures.toml has every case")
    }
}

impl Figure {
    /// All figures, in the order of the tables.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        sections().iter().flat_map(|section| &section.figures).map(|data| data.id)
    }

    pub(crate) fn data(self) -> &'static FigureData {
        let mut all = sections().iter().flat_map(|section| &section.figures);
        all.find(|data| data.id == self).expect("figures.toml has every figure")
    }

    /// `figure` with its unit.
    pub(crate) fn show(self, figure: f64) -> String {
        match self.data().unit {
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

/// Nanoseconds in the unit [`Unit::Millis`].
pub(crate) fn millis(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(Figure::Delivery.show(5.283), "5.28 µs");
        assert_eq!(Figure::IdleListener.show(1_699.0), "1.7 KB");
        assert_eq!(Figure::IdleListener.show(512.0), "512 B");
        assert_eq!(Figure::Post.show(20.0), "20.0 µs, 50000/s");
        assert_eq!(Figure::Kept.show(0.5), "50 %");
    }

    #[test]
    fn every_figure_and_section_is_described_once() {
        // The last one of each counts the others.
        let all: Vec<Figure> = Figure::all().collect();
        assert_eq!(all.len(), Figure::NatsStart as usize + 1);
        assert!(all.iter().enumerate().all(|(number, figure)| !all[..number].contains(figure)));
        let ids = sections().iter().map(|data| data.id);
        let every = [Section::Gate, Section::Server, Section::Delivery, Section::Cluster];
        assert!(ids.eq(every));
    }
}
