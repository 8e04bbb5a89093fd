//! Ratios to the best peer, as bars.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::Figure;
use super::results::{Results, Role, Subject};

const WIDTH: i32 = 880;
const LABELS: i32 = 130;
const BAR: i32 = 16;
const STEP: i32 = 20;
const HEAD: i32 = 30;
const FOOT: i32 = 10;

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
    // A panel for each figure that a peer has, and a bar for each program that has it.
    let panel = |figure: &'static Figure| {
        let (_, best) = results.best_peer(figure)?;
        let bar = |subject| Some((subject, Subject::median(subject, figure)?));
        Some((figure, best, results.subjects.iter().filter_map(bar).collect::<Vec<_>>()))
    };
    let panels: Vec<_> = results.figures().filter_map(panel).collect();
    let bars: usize = panels.iter().map(|(_, _, bars)| bars.len()).sum();
    let height = (HEAD + FOOT) * i32::try_from(panels.len())? + STEP * i32::try_from(bars)?;
    let size = (u32::try_from(WIDTH)?, u32::try_from(height + 10)?);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let bold = ("sans-serif", 15).into_font().style(FontStyle::Bold).color(&BLACK);
    let small = ("sans-serif", 13).into_font().color(&BLACK);
    let left = small.pos(Pos::new(HPos::Left, VPos::Center));
    let right = small.pos(Pos::new(HPos::Right, VPos::Center));
    let mut y = 10;
    for (figure, best, bars) in &panels {
        let title = format!("{} (1.00 = best peer)", figure.name);
        area.draw(&Text::new(title, (LABELS, y), bold.clone()))?;
        y += HEAD;
        let top = y;
        for (subject, median) in bars {
            let color = match subject.role {
                Role::Ours => RGBColor(200, 76, 30),
                Role::Peer => RGBColor(150, 160, 172),
                Role::Floor => RGBColor(214, 219, 225),
            };
            let (ratio, middle) = (median / best, y + BAR / 2);
            let end = LABELS + length(ratio);
            area.draw(&Rectangle::new([(LABELS, y), (end, y + BAR)], color.filled()))?;
            area.draw(&Text::new(subject.name.as_str(), (LABELS - 8, middle), right.clone()))?;
            let cut = if ratio > LONGEST { " …" } else { "" };
            let value = format!("{ratio:.2}{cut}   {}", figure.show(*median));
            area.draw(&Text::new(value, (end + 8, middle), left.clone()))?;
            y += STEP;
        }
        let one = LABELS + length(1.0);
        area.draw(&PathElement::new([(one, top - 4), (one, y - 2)], BLACK.mix(0.4)))?;
        y += FOOT;
    }
    area.present()?;
    Ok(())
}

/// Pixels of a bar.
#[allow(clippy::cast_possible_truncation, reason = "bounded by LONGEST")]
fn length(ratio: f64) -> i32 {
    (ratio.clamp(0.0, LONGEST) / LONGEST * f64::from(WIDTH - LABELS - 170)) as i32
}
