//! The summary on the terminal.

use comfy_table::{CellAlignment, Table, presets};

use super::{cell, title};
use crate::results::Results;

/// One row a figure; in parentheses the ratio to the best peer, then how far the rounds differ.
pub(crate) fn of(results: &Results) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let names = results.programs.iter().map(title);
    table.set_header([String::new()].into_iter().chain(names));
    for metric in results.metrics() {
        let cells = results.programs.iter().map(|program| {
            let shown = cell(results, program, metric);
            match program.spread(metric) {
                Some(spread) => format!("{shown} ±{:.0}%", spread * 100.0),
                None => shown,
            }
        });
        table.add_row([metric.title().to_owned()].into_iter().chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
