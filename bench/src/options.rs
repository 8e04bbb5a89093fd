//! The values of options: entries of a table, and numbers within bounds.

use std::ops::RangeInclusive;

use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};

/// An entry of a table that the command line can name.
pub(crate) trait Choice: Sync + 'static {
    fn option(&self) -> &str;
    fn help(&self) -> &str;
}

/// Reads the name of an entry.
pub(crate) fn one_of<T: Choice>(table: &'static [T]) -> impl TypedValueParser<Value = &'static T> {
    let values = table.iter().map(|entry| match entry.help() {
        "" => PossibleValue::new(entry.option()),
        help => PossibleValue::new(entry.option()).help(help),
    });
    PossibleValuesParser::new(values)
        .try_map(|name| table.iter().find(|entry| entry.option() == name).ok_or("no such value"))
}

/// The names of some entries, for a default.
pub(crate) fn names<T: Choice>(entries: &'static [T]) -> impl Iterator<Item = &'static str> {
    entries.iter().map(Choice::option)
}

/// Reads a number within bounds.
pub(crate) fn range(bounds: RangeInclusive<u64>) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(bounds)
}
