//! The summary on the terminal.

use comfy_table::{CellAlignment, Table, presets};

use super::{cell, measured};
use crate::gate::Results;

/// One row a program; in parentheses the ratio to the best peer, then how far the rounds differ.
pub(crate) fn of(results: &Results) -> Table {
    let metrics = measured(results);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let mut head = vec!["".to_owned()];
    head.extend(metrics.iter().map(|metric| metric.title().to_owned()));
    head.push("close_notify".to_owned());
    table.set_header(head);
    for program in &results.programs {
        let mut row = vec![format!("{} {}", program.name, program.version)];
        for metric in &metrics {
            let spread = program.spread(*metric).map_or(0.0, |spread| spread * 100.0);
            row.push(format!("{} ±{spread:.0}%", cell(results, program, *metric)));
        }
        row.push(if program.closes_properly { "yes" } else { "not always" }.to_owned());
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
