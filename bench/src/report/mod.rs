//! The figures for people: on the terminal, as a page, as a chart.

pub(crate) mod chart;
pub(crate) mod markdown;
pub(crate) mod table;

use crate::gate::{Measured, Results};
use crate::metric::Metric;

/// The metrics that were measured at all.
fn measured(results: &Results) -> Vec<Metric> {
    let was_measured = |metric: &Metric| {
        results.programs.iter().any(|program| program.figures.contains_key(metric))
    };
    Metric::ALL.into_iter().filter(was_measured).collect()
}

/// `801 µs (1.00)`: the median and its ratio to the best peer.
fn cell(results: &Results, program: &Measured, metric: Metric) -> String {
    let Some(figure) = program.median(metric) else { return "–".to_owned() };
    let shown = metric.show(figure);
    match results.best_peer(metric) {
        Some((_, best)) if metric.is_compared() => format!("{shown} ({:.2})", figure / best),
        _ => shown,
    }
}
