//! Goals, and whether they are met.

use std::fmt;

use crate::gate::Results;
use crate::metric::Metric;

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
    let mut verdicts = Vec::new();
    let Some(gate) = results.programs.iter().find(|program| !program.is_peer) else {
        return verdicts;
    };
    for metric in Metric::ALL {
        let Some(figure) = gate.median(metric) else { continue };
        if let (Some(most), Some((peer, best))) = (metric.ratio_goal(), results.best_peer(metric)) {
            let ratio = figure / best;
            let shown = format!(
                "{ratio:.2} × {peer} ({} to {}), goal {most:.2}",
                metric.show(figure),
                metric.show(best)
            );
            verdicts.push(Verdict::new(metric.title().to_owned(), ratio, most, shown));
        }
        if let Some(most) = metric.goal() {
            let shown = format!("{}, goal {}", metric.show(figure), metric.show(most));
            verdicts.push(Verdict::new(metric.title().to_owned(), figure, most, shown));
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_meets_no_goal() {
        let verdict = |figure| Verdict::new("x".to_owned(), figure, 0.5, "y".to_owned());
        assert!(verdict(0.5).is_met());
        assert!(!verdict(0.51).is_met());
        assert!(!verdict(f64::NAN).is_met());
        assert_eq!(verdict(0.6).to_string(), "MISSED: x: y");
    }
}
