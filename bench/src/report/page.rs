//! The page for the documentation: a section for each thing that is measured, written anew by each
//! run while the others stay.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use anyhow::Context as _;

use super::{cell, title};
use crate::goals::Verdict;
use crate::results::Results;

/// The sections, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Gate,
    Server,
    Delivery,
    Cluster,
}

const INTRODUCTION: &str = "# What it costs\n\n\
    Written by `scripts/bench`, which anyone can run on a machine of their own. It installs what \
    the programs\nare compared with, starts each with an equivalent configuration, and measures \
    all of them in turn. A\nfigure is the median of all rounds; in parentheses its ratio to the \
    best peer.\n";

impl Section {
    const ALL: [Self; 4] = [Self::Gate, Self::Server, Self::Delivery, Self::Cluster];

    fn heading(self) -> &'static str {
        match self {
            Self::Gate => "## The gate\n",
            Self::Server => "## The server\n",
            Self::Delivery => "## What the server keeps\n",
            Self::Cluster => "## Servers that share a log\n",
        }
    }

    /// Relative to the page. What is not compared has none.
    fn chart(self) -> Option<&'static str> {
        match self {
            Self::Gate => Some("benchmarks-gate.svg"),
            Self::Server => Some("benchmarks-server.svg"),
            Self::Delivery | Self::Cluster => None,
        }
    }
}

/// A section: the figures, their explanations, the goals, and `how` they were measured.
///
/// # Errors
/// None that happens: a string takes everything.
pub(crate) fn figures(
    results: &Results,
    verdicts: &[Verdict],
    section: Section,
    how: &str,
) -> anyhow::Result<String> {
    let mut text = section.heading().to_owned();
    writeln!(text)?;
    if let Some(chart) = section.chart() {
        writeln!(text, "![Ratios to the best peer]({chart})\n")?;
    }
    let mut row = |cells: Vec<String>| writeln!(text, "| {} |", cells.join(" | "));
    let head = [String::new()].into_iter().chain(results.programs.iter().map(title));
    row(head.collect())?;
    let rule = results.programs.iter().map(|_| "---:".to_owned());
    row(["---".to_owned()].into_iter().chain(rule).collect())?;
    for metric in results.metrics() {
        let cells = results.programs.iter().map(|program| cell(results, program, metric));
        row([metric.title().to_owned()].into_iter().chain(cells).collect())?;
    }
    writeln!(text)?;
    for metric in results.metrics() {
        writeln!(text, "- **{}**: {}.", metric.title(), metric.explanation())?;
    }
    writeln!(text, "\n### Goals\n")?;
    for verdict in verdicts {
        writeln!(text, "- {verdict}")?;
    }
    write!(text, "\n### How\n\n{how}")?;
    Ok(wrapped(&text))
}

/// Puts a section in its place.
///
/// # Errors
/// When the page cannot be read or written.
pub(crate) fn write(path: &Path, section: Section, text: &str) -> anyhow::Result<()> {
    let old = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        outcome => outcome.with_context(|| format!("cannot read {}", path.display())),
    }?;
    fs::write(path, replaced(&old, section, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(old: &str, section: Section, text: &str) -> String {
    let parts = Section::ALL.into_iter().filter_map(|other| match other == section {
        true => Some(text),
        false => part(old, other),
    });
    let mut page = INTRODUCTION.to_owned();
    for part in parts {
        page.push('\n');
        page.push_str(part.trim_end());
        page.push('\n');
    }
    page
}

/// A section of a page, from its heading to the next one.
fn part(page: &str, section: Section) -> Option<&str> {
    let start = page.find(&format!("\n{}", section.heading()))? + 1;
    let length = page[start + 1..].find("\n## ").map_or(page.len() - start, |end| end + 2);
    page.get(start..start + length)
}

/// Long lines of text are wrapped; rows of tables cannot be.
fn wrapped(text: &str) -> String {
    let mut page = String::new();
    for line in text.lines() {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        let mut width = 0;
        for (number, word) in line.split(' ').enumerate() {
            let length = word.chars().count();
            if number > 0 && width + 1 + length > WIDTH && !line.starts_with('|') {
                page.push('\n');
                page.push_str(indent);
                width = indent.len();
            } else if number > 0 {
                page.push(' ');
                width += 1;
            }
            page.push_str(word);
            width += length;
        }
        page.push('\n');
    }
    page
}

const WIDTH: usize = 104;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_its_own() {
        let first = replaced("", Section::Server, "## The server\n\nold\n\n### How\n\nso\n");
        assert!(first.starts_with("# What it costs\n") && first.ends_with("\n### How\n\nso\n"));
        let both = replaced(&first, Section::Gate, "## The gate\n\nfast\n");
        assert!(both.ends_with("\n## The gate\n\nfast\n\n## The server\n\nold\n\n### How\n\nso\n"));
        let again = replaced(&both, Section::Server, "## The server\n\nnew\n");
        assert!(again.ends_with("\n## The gate\n\nfast\n\n## The server\n\nnew\n"));
        assert_eq!(again.matches("## The gate").count(), 1);
        assert_eq!(replaced(&again, Section::Gate, "## The gate\n\nfast\n"), again);
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
