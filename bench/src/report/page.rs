//! The page for the documentation: a section for each comparison, which its run replaces while the
//! other sections stay.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result};
use textwrap::{Options, WordSeparator, WordSplitter};

use super::figure::{Figure, Section, sections};
use super::figure_rows;
use super::results::{Results, judge};

const INTRODUCTION: &str = "# What it costs\n\n\
    Written by `scripts/bench`, which anyone can run on a machine of their own. It installs what \
    the programs\nare compared with, starts each with an equivalent configuration, and measures \
    all of them in turn. A\nfigure is the median of all rounds; in parentheses its ratio to the \
    best peer.\n";

/// Lines of text are not longer than this; rows of tables are.
const WIDTH: usize = 104;

/// A section: the figures, their notes, the goals, and `how` they were measured.
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

/// A section of a page, from its heading to the next one.
fn part<'a>(page: &'a str, section: &Section) -> Option<&'a str> {
    let start = page.find(&format!("\n{}", heading(section)))? + 1;
    let length = page[start + 1..].find("\n## ").map_or(page.len() - start, |end| end + 2);
    page.get(start..start + length)
}

/// Wraps long lines of text; rows of tables cannot be wrapped.
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
