//! Writes the page for the documentation, and the charts. The page has a section for each
//! comparison. A run replaces the section of its comparison and keeps the others. A chart shows
//! ratios to the best peer as bars.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use textwrap::{Options, WordSeparator, WordSplitter};

use super::figure::{Figure, Section, sections};
use super::figure_rows;
use super::results::{Results, Role, Subject, judge};

const INTRODUCTION: &str = "# What it costs\n\n\
    Written by `scripts/bench`, which anyone can run on a machine of their own. It installs what \
    the programs\nare compared with, starts each with an equivalent configuration, and measures \
    all of them in turn. A\nfigure is the median of all rounds; in parentheses its ratio to the \
    best peer.\n";

/// The largest width of lines of text. Rows of tables may be longer.
const WIDTH: usize = 104;

/// Returns the text of a section: the figures, their notes, the goals, and `how` they were
/// measured.
pub(crate) fn figures(results: &Results, section: &Section, how: &str) -> String {
    let mut lines = vec![heading(section)];
    lines
        .extend(section.chart.iter().map(|chart| format!("![Ratios to the best peer]({chart})\n")));
    let mut rows = figure_rows(results, false);
    let rule = results.subjects.iter().map(|_| "---:".to_owned());
    rows.insert(1, ["---".to_owned()].into_iter().chain(rule).collect());
    lines.extend(rows.iter().map(|cells| format!("| {} |", cells.join(" | "))));
    lines.push(String::new());
    let note = |figure: &Figure| format!("- **{}**: {}.", figure.name, figure.note);
    lines.extend(results.figures().map(note));
    lines.push("\n### Goals\n".to_owned());
    lines.extend(judge(results).iter().map(|verdict| format!("- {verdict}")));
    lines.push(format!("\n### How\n\n{how}"));
    wrapped(&lines.join("\n"))
}

/// Replaces a section of the page.
///
/// # Errors
/// When the page cannot be read or written.
pub(crate) fn write(path: &Path, section: &Section, text: &str) -> Result<()> {
    let old = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        outcome => outcome.with_context(|| format!("cannot read {}", path.display())),
    }?;
    fs::write(path, replaced(&old, section, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(old: &str, section: &Section, text: &str) -> String {
    let mut page = INTRODUCTION.to_owned();
    for other in sections() {
        let kept = if other.id == section.id { Some(text) } else { part(old, other) };
        page.extend(kept.map(|text| format!("\n{}\n", text.trim_end())));
    }
    page
}

fn heading(section: &Section) -> String {
    format!("## {}\n", section.heading)
}

/// Returns a section of the page, from its heading to the next heading.
fn part<'a>(page: &'a str, section: &Section) -> Option<&'a str> {
    let start = page.find(&format!("\n{}", heading(section)))? + 1;
    let length = page[start + 1..].find("\n## ").map_or(page.len() - start, |end| end + 2);
    page.get(start..start + length)
}

/// Wraps long lines of text. Rows of tables are left as they are.
fn wrapped(text: &str) -> String {
    let mut page = String::new();
    for line in text.lines() {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        let options = Options::new(WIDTH)
            .subsequent_indent(indent)
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation);
        let filled =
            if line.starts_with('|') { line.into() } else { textwrap::fill(line, options) };
        page.extend([&filled, "\n"]);
    }
    page
}

const CHART_WIDTH: i32 = 880;
const LABELS: i32 = 130;
const BAR: i32 = 16;
const STEP: i32 = 20;
const HEAD: i32 = 30;
const FOOT: i32 = 10;

/// The longest bar, as a ratio to the best peer. Longer bars are cut, because nobody needs to know
/// exactly what is many times worse.
const LONGEST: f64 = 3.0;

/// Writes the chart.
///
/// # Errors
/// When the chart cannot be written.
pub(crate) fn write_chart(results: &Results, path: &Path) -> Result<()> {
    draw(results, path)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn draw(results: &Results, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // There is a panel for each figure that a peer has, with a bar for each program that has the
    // figure.
    let panel = |figure: &'static Figure| {
        let (_, best) = results.best_peer(figure)?;
        let bar = |subject| Some((subject, Subject::median(subject, figure)?));
        Some((figure, best, results.subjects.iter().filter_map(bar).collect::<Vec<_>>()))
    };
    let panels: Vec<_> = results.figures().filter_map(panel).collect();
    let bars: usize = panels.iter().map(|(_, _, bars)| bars.len()).sum();
    let height = (HEAD + FOOT) * i32::try_from(panels.len())? + STEP * i32::try_from(bars)?;
    let size = (u32::try_from(CHART_WIDTH)?, u32::try_from(height + 10)?);
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

/// Returns the length of a bar in pixels.
#[allow(clippy::cast_possible_truncation, reason = "bounded by LONGEST")]
fn length(ratio: f64) -> i32 {
    (ratio.clamp(0.0, LONGEST) / LONGEST * f64::from(CHART_WIDTH - LABELS - 170)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::section;

    #[test]
    fn a_section_replaces_its_own() {
        let first = replaced("", section("server"), "## The server\n\nold\n\n### How\n\nso\n");
        assert!(first.starts_with("# What it costs\n") && first.ends_with("\n### How\n\nso\n"));
        let both = replaced(&first, section("gate"), "## The gate\n\nfast\n");
        assert!(both.ends_with("\n## The gate\n\nfast\n\n## The server\n\nold\n\n### How\n\nso\n"));
        let again = replaced(&both, section("server"), "## The server\n\nnew\n");
        assert!(again.ends_with("\n## The gate\n\nfast\n\n## The server\n\nnew\n"));
        assert_eq!(again.matches("## The gate").count(), 1);
        assert_eq!(replaced(&again, section("gate"), "## The gate\n\nfast\n"), again);
    }

    #[test]
    fn long_lines_are_wrapped() {
        let long = format!("- {}", "word ".repeat(40));
        for line in wrapped(&long).lines() {
            assert!(line.chars().count() <= WIDTH);
        }
        let row = format!("| {} |\n", "cell | ".repeat(40));
        assert_eq!(wrapped(&row), row);
        assert_eq!(wrapped("a\n\nb\n"), "a\n\nb\n");
    }
}
