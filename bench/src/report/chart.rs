//! Ratios to the best peer, as bars.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::metric::Metric;
use crate::results::{Results, Role};

const WIDTH: i32 = 880;
const LABELS: i32 = 130;
const BAR: i32 = 16;
const STEP: i32 = 20;
const HEAD: i32 = 30;

/// Longer bars are cut: what is many times worse needs no exact length.
const MOST: f64 = 3.0;

/// Writes the chart.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(results: &Results, path: &Path) -> anyhow::Result<()> {
    draw(results, path)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn draw(results: &Results, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let is_compared = |metric: &Metric| results.best_peer(*metric).is_some();
    let metrics: Vec<Metric> = results.metrics().into_iter().filter(is_compared).collect();
    let mut height = 10;
    for metric in &metrics {
        height += panel(results, *metric)?;
    }
    let area =
        SVGBackend::new(path, (u32::try_from(WIDTH)?, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    let small = ("sans-serif", 13).into_font();
    let left = Pos::new(HPos::Left, VPos::Center);
    let right = Pos::new(HPos::Right, VPos::Center);
    let mut top = 10;
    for metric in &metrics {
        let Some((_, best)) = results.best_peer(*metric) else { continue };
        let title = format!("{} (1.00 = best peer)", metric.title());
        let bold = ("sans-serif", 15).into_font().style(FontStyle::Bold);
        area.draw(&Text::new(title, (LABELS, top), bold.color(&BLACK)))?;
        let mut y = top + HEAD - STEP;
        for program in &results.programs {
            let Some(figure) = program.median(*metric) else { continue };
            let ratio = figure / best;
            y += STEP;
            let colour = match program.role {
                Role::Ours => RGBColor(200, 76, 30),
                Role::Peer => RGBColor(150, 160, 172),
                Role::Floor => RGBColor(214, 219, 225),
            };
            let end = LABELS + length(ratio);
            area.draw(&Rectangle::new([(LABELS, y), (end, y + BAR)], colour.filled()))?;
            let name = Text::new(
                program.name.clone(),
                (LABELS - 8, y + BAR / 2),
                small.clone().color(&BLACK).pos(right),
            );
            area.draw(&name)?;
            let cut = if ratio > MOST { " …" } else { "" };
            let value = format!("{ratio:.2}{cut}   {}", metric.show(figure));
            area.draw(&Text::new(
                value,
                (end + 8, y + BAR / 2),
                small.clone().color(&BLACK).pos(left),
            ))?;
        }
        let one = LABELS + length(1.0);
        let next = top + panel(results, *metric)?;
        area.draw(&PathElement::new([(one, top + HEAD - 4), (one, next - 12)], BLACK.mix(0.4)))?;
        top = next;
    }
    area.present()?;
    Ok(())
}

/// Height of one metric's part: a row for each program that has a figure.
fn panel(results: &Results, metric: Metric) -> anyhow::Result<i32> {
    let rows = results.programs.iter().filter(|program| program.median(metric).is_some()).count();
    Ok(HEAD + STEP * i32::try_from(rows)? + 10)
}

/// Pixels of a bar.
#[allow(clippy::cast_possible_truncation, reason = "bounded by MOST")]
fn length(ratio: f64) -> i32 {
    (ratio.clamp(0.0, MOST) / MOST * f64::from(WIDTH - LABELS - 170)) as i32
}
