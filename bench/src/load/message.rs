//! The messages of the load: JSON with the time of sending, padded to a size.

use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;

/// The shortest message.
pub(crate) const SHORTEST: usize = BEGINNING.len() + DIGITS + PADDING.len() + END.len();

const BEGINNING: &str = "{\"t\":";
const PADDING: &str = ",\"pad\":\"";
const END: &str = "\"}";

/// Times count from here, so that all of them have the same number of digits.
const ZERO: u64 = 1_000_000_000_000_000_000;
const DIGITS: usize = 19;

/// Nanoseconds since the load began, by the clock of this process alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The longest latency that is recorded exactly, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// A histogram of latencies in nanoseconds.
pub(crate) fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LONGEST, 3)?)
}

/// A message of `size` bytes, or the shortest if that is longer.
pub(crate) fn message(sent: u64, size: usize) -> String {
    let mut message = format!("{BEGINNING}{}{PADDING}", ZERO + sent);
    for _ in SHORTEST..size {
        message.push('a');
    }
    message.push_str(END);
    message
}

/// When the message was sent that is somewhere in `payload`.
pub(crate) fn sent(payload: &[u8]) -> Option<u64> {
    let start =
        payload.windows(BEGINNING.len()).position(|window| window == BEGINNING.as_bytes())?
            + BEGINNING.len();
    let digits = std::str::from_utf8(payload.get(start..start + DIGITS)?).ok()?;
    digits.parse::<u64>().ok()?.checked_sub(ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_when_it_was_sent() {
        let text = message(42, 125);
        assert_eq!(text.len(), 125);
        let delivery = format!("{{\"tag\":\"bench\",\"seq\":7,\"at\":1,\"message\":{text}}}");
        assert_eq!(sent(delivery.as_bytes()), Some(42));
        assert_eq!(sent(text.as_bytes()), Some(42));
        assert_eq!(message(0, 0).len(), SHORTEST);
        assert_eq!(sent(b"{\"ok\":\"set\"}"), None);
        assert_eq!(sent(b"{\"t\":1000"), None);
    }
}
