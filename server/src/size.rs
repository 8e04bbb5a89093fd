//! Parses sizes in bytes, and writes them as text.

/// The units: first the binary ones, then the decimal ones, each from the largest. [`exact`] uses
/// the first one that leaves no remainder.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// The error of a text that is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a size, for example 64MiB, 1GiB, 500KB, or a number of bytes")]
pub(crate) struct BadSize;

/// Parses `64MiB`, `1GiB`, `500KB` or a number of bytes, in upper or lower case.
///
/// # Errors
/// [`BadSize`] for any other text, such as a fraction, and for a size beyond 64 bits.
pub(crate) fn parse(text: &str) -> Result<u64, BadSize> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| BadSize)?;
    let unit = unit.trim_start();
    let factor = match unit {
        "" => 1,
        _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(BadSize)?.1,
    };
    number.checked_mul(factor).ok_or(BadSize)
}

/// Writes a size for people, rounded down to about three digits.
pub(crate) fn show(bytes: u64) -> String {
    let (name, unit) = UNITS[..4].iter().find(|(_, unit)| bytes >= *unit).unwrap_or(&("B", 1));
    let whole = bytes / unit;
    let tenths = bytes % unit * 10 / unit;
    match (whole, tenths) {
        (1..100, 1..) => format!("{whole}.{tenths} {name}"),
        _ => format!("{whole} {name}"),
    }
}

/// Writes a size as in the configuration, without rounding.
pub(crate) fn exact(bytes: u64) -> String {
    let fits = |unit: u64| bytes >= unit && bytes.is_multiple_of(unit);
    let (name, unit) = UNITS.iter().find(|(_, unit)| fits(*unit)).unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1234", 1234),
            ("12B", 12),
            ("500KB", 500_000),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1GiB", 1 << 30),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1 Gi", "1e6", "99999999999TiB", "1GiBs"] {
            assert_eq!(parse(text), Err(BadSize), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1 << 30, "1 GiB"),
            (200 * 1024 * 1024 + 600_000, "200 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }

    #[test]
    fn exact_sizes_are_those_that_can_be_configured() {
        for (bytes, text) in [
            (0, "0B"),
            (1_048_577, "1048577B"),
            (64 << 20, "64MiB"),
            (3 << 29, "1536MiB"),
            (500_000, "500KB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(exact(bytes), text);
            assert_eq!(parse(text), Ok(bytes));
        }
    }
}
