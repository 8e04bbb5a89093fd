//! A rate limit: a rate, and a bucket that requests take from.
//!
//! The generic cell rate algorithm (ITU-T I.371) stores a bucket as one number, the time when the
//! bucket is full again. So each limit costs a connection 8 bytes.

use std::num::NonZeroU32;
use std::time::Duration;

/// The limits of an address are 20 times those of a connection, because the people of an office or
/// a mobile network share one address.
const PER_ADDRESS: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// A sustained rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
}

impl Rate {
    /// Returns `None`, which means unlimited, if the rate or the burst is 0.
    pub(crate) const fn new(per_second: u32, burst: u32) -> Option<Self> {
        match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
            (Some(per_second), Some(burst)) => Some(Self { per_second, burst }),
            _ => None,
        }
    }

    pub(super) fn of_address(self) -> Self {
        Self {
            per_second: self.per_second.saturating_mul(PER_ADDRESS),
            burst: self.burst.saturating_mul(PER_ADDRESS),
        }
    }
}

/// The error of a request that exceeds the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooOften {
    pub retry_in: Duration,
}

/// Nanoseconds since the start of the server.
pub(super) type Moment = u64;

/// The time when the bucket is full again; 0 in a bucket that was never used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket(Moment);

impl Bucket {
    pub(super) fn take(&mut self, rate: Rate, now: Moment) -> Result<(), TooOften> {
        let each = 1_000_000_000 / u64::from(rate.per_second.get());
        let latest = now + each * u64::from(rate.burst.get());
        // A reload may have changed the rate. Requests at the old rate then count as at most one
        // burst of the new rate.
        self.0 = self.0.min(latest);
        let full = self.0.max(now) + each;
        if full > latest {
            return Err(TooOften { retry_in: Duration::from_nanos(full - latest) });
        }
        self.0 = full;
        Ok(())
    }

    pub(super) fn is_full(self, now: Moment) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Moment = 1_000_000_000;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate::new(10, 3).unwrap();
        let mut bucket = Bucket::default();
        let taken =
            |bucket: &mut Bucket, now| (0..9).filter(|_| bucket.take(rate, now).is_ok()).count();
        assert_eq!(taken(&mut bucket, SECOND), 3);
        let retry_in = Duration::from_millis(100);
        assert_eq!(bucket.take(rate, SECOND), Err(TooOften { retry_in }));
        assert_eq!(taken(&mut bucket, SECOND + SECOND / 10), 1);
        assert_eq!(taken(&mut bucket, SECOND + SECOND / 5 + 1), 1);
        assert_eq!(taken(&mut bucket, 9 * SECOND), 3, "never more than the burst");
    }

    #[test]
    fn a_rate_that_is_loosened_frees_those_who_were_held_by_the_one_before() {
        let (slow, fast) = (Rate::new(1, 600).unwrap(), Rate::new(200, 400).unwrap());
        let mut bucket = Bucket::default();
        while bucket.take(slow, SECOND).is_ok() {}
        let retry_in = Duration::from_millis(5);
        assert_eq!(
            bucket.take(fast, SECOND),
            Err(TooOften { retry_in }),
            "all of its burst is used"
        );
        assert_eq!(bucket.take(fast, SECOND + SECOND / 200), Ok(()), "and it is kept to that");
        // A tighter rate permits its whole burst once the earlier requests no longer count.
        let mut bucket = Bucket::default();
        while bucket.take(fast, SECOND).is_ok() {}
        assert_eq!((0..999).filter(|_| bucket.take(slow, 3 * SECOND).is_ok()).count(), 600);
    }
}
