//! Ratios to the best peer, as bars.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::Figure;
use super::results::{Results, Role};

const WIDTH: i32 = 880;
const LABELS: i32 = 130;
const BAR: i32 = 16;
const STEP: i32 = 20;
const HEAD: i32 = 30;

/// The longest bar. Longer ones are cut: nobody needs the exact length of what is many times worse.
const LONGEST: f64 = 3.0;

/// Writes the chart.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(results: &Results, path: &Path) -> Result<()> {
    draw(results, path)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn draw(results: &Results, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let panels: Vec<Panel<'_>> =
        results.figures().filter_map(|figure| Panel::of(results, figure)).collect();
    let height: i32 = panels.iter().map(Panel::height).sum();
    let size = (u32::try_from(WIDTH)?, u32::try_from(height + 10)?);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let bold = ("sans-serif", 15).into_font().style(FontStyle::Bold).color(&BLACK);
    let small = ("sans-serif", 13).into_font().color(&BLACK);
    let left = small.pos(Pos::new(HPos::Left, VPos::Center));
    let right = small.pos(Pos::new(HPos::Right, VPos::Center));
    let mut top = 10;
    for panel in &panels {
        let name = &panel.figure.name;
        let title = format!("{name} (1.00 = best peer)");
        area.draw(&Text::new(title, (LABELS, top), bold.clone()))?;
        let mut y = top + HEAD;
        for bar in &panel.bars {
            let end = LABELS + length(bar.ratio);
            area.draw(&Rectangle::new([(LABELS, y), (end, y + BAR)], bar.color.filled()))?;
            area.draw(&Text::new(bar.name, (LABELS - 8, y + BAR / 2), right.clone()))?;
            let cut = if bar.ratio > LONGEST { " …" } else { "" };
            let value = format!("{:.2}{cut}   {}", bar.ratio, bar.shown);
            area.draw(&Text::new(value, (end + 8, y + BAR / 2), left.clone()))?;
            y += STEP;
        }
        let one = LABELS + length(1.0);
        let bottom = top + panel.height();
        area.draw(&PathElement::new([(one, top + HEAD - 4), (one, bottom - 12)], BLACK.mix(0.4)))?;
        top = bottom;
    }
    area.present()?;
    Ok(())
}

/// One figure: a bar for each program that has it.
struct Panel<'a> {
    figure: &'static Figure,
    bars: Vec<Bar<'a>>,
}

struct Bar<'a> {
    name: &'a str,
    ratio: f64,
    shown: String,
    color: RGBColor,
}

impl<'a> Panel<'a> {
    /// `None` if no peer has the figure.
    fn of(results: &'a Results, figure: &'static Figure) -> Option<Self> {
        let (_, best) = results.best_peer(figure)?;
        let bars = results.subjects.iter().filter_map(|subject| {
            let median = subject.median(figure)?;
            let color = match subject.role {
                Role::Ours => RGBColor(200, 76, 30),
                Role::Peer => RGBColor(150, 160, 172),
                Role::Floor => RGBColor(214, 219, 225),
            };
            Some(Bar {
                name: &subject.name,
                ratio: median / best,
                shown: figure.show(median),
                color,
            })
        });
        Some(Self { figure, bars: bars.collect() })
    }

    fn height(&self) -> i32 {
        HEAD + STEP * i32::try_from(self.bars.len()).unwrap_or(i32::MAX / 2 / STEP) + 10
    }
}

/// Pixels of a bar.
#[allow(clippy::cast_possible_truncation, reason = "bounded by LONGEST")]
fn length(ratio: f64) -> i32 {
    (ratio.clamp(0.0, LONGEST) / LONGEST * f64::from(WIDTH - LABELS - 170)) as i32
}
