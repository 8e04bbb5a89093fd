//! Durations as text.

use std::time::Duration;

/// Writes a duration in words, for example `7 days` or `1 hour 30 minutes`. Options accept this
/// form.
pub(crate) fn show(time: Duration) -> String {
    let mut left = time.as_secs();
    let units = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
    let whole = units.into_iter().filter_map(|(unit, seconds)| {
        let count = left / seconds;
        left %= seconds;
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {unit}{plural}"))
    });
    let mut parts: Vec<String> = whole.collect();
    match time.subsec_millis() {
        0 if parts.is_empty() => parts.push("0 seconds".into()),
        0 => {}
        millis => parts.push(format!("{millis} ms")),
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_people_write() {
        for (text, words) in [
            ("7d", "7 days"),
            ("1h", "1 hour"),
            ("90m", "1 hour 30 minutes"),
            // Days are not combined into months, because a month of humantime has 30.44 days.
            ("31d", "31 days"),
            ("1d 1s", "1 day 1 second"),
            ("1500ms", "1 second 500 ms"),
            ("0s", "0 seconds"),
        ] {
            let time = humantime::parse_duration(text).unwrap();
            assert_eq!(show(time), words);
            assert_eq!(humantime::parse_duration(words), Ok(time), "{words}");
        }
    }
}
