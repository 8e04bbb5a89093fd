//! The figures of one run, one a line.

use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;

/// Names and values.
pub(crate) struct Sheet(Table);

impl Sheet {
    pub(crate) fn new() -> Self {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        Self(table)
    }

    /// What was not measured is a dash.
    pub(crate) fn row(&mut self, name: &str, value: Option<String>) {
        self.0.add_row([name.to_owned(), value.unwrap_or_else(|| "–".to_owned())]);
        if let Some(column) = self.0.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) fn micros(micros: f64) -> String {
    format!("{micros:.2} µs")
}

pub(crate) fn millis(nanos: u64) -> String {
    format!("{:.2} ms", Duration::from_nanos(nanos).as_secs_f64() * 1e3)
}

/// Median, 99th percentile and maximum of nanoseconds.
pub(crate) fn quantiles(times: &Histogram<u64>) -> [(&'static str, String); 3] {
    [("p50", 0.5), ("p99", 0.99), ("max", 1.0)]
        .map(|(name, quantile)| (name, millis(times.value_at_quantile(quantile))))
}
