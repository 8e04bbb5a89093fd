//! Parsers for the values of options: entries of a table, and numbers within bounds.

use std::ops::RangeInclusive;

use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};

/// An entry of a table that an option names.
pub(crate) trait Choice: Sync + 'static {
    fn option(&self) -> &str;
    fn help(&self) -> &str;
}

/// Returns a parser that accepts the name of an entry of `table`.
pub(crate) fn one_of<T: Choice>(table: &'static [T]) -> impl TypedValueParser<Value = &'static T> {
    let values = table.iter().map(|entry| match entry.help() {
        "" => PossibleValue::new(entry.option()),
        help => PossibleValue::new(entry.option()).help(help),
    });
    PossibleValuesParser::new(values)
        .try_map(|name| table.iter().find(|entry| entry.option() == name).ok_or("no such value"))
}

/// Returns the names of some entries, for the default of an option.
pub(crate) fn names<T: Choice>(entries: &'static [T]) -> impl Iterator<Item = &'static str> {
    entries.iter().map(Choice::option)
}

/// Returns a parser that accepts a number within `bounds`.
pub(crate) fn range(bounds: RangeInclusive<u64>) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(bounds)
}
