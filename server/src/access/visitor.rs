//! The address of a connection and its rate limit buckets.

use std::net::IpAddr;

use crate::access::addresses::BucketKind;
use crate::access::bucket::{Bucket, Moment, Rate, TooOften};
use crate::access::rate_limit::{Limits, RateLimiter};

/// How often a connection may exceed a rate limit before it counts as deaf and is closed.
const MAY_EXCEED: Option<Rate> = Rate::new(10, 1_000);

/// The rate limit buckets of a connection. The type is small, because every idle connection has
/// one.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) address: Option<IpAddr>,
    set: Bucket,
    /// Allocated when the connection does more than listen.
    busy: Option<Box<BusyBuckets>>,
}

#[derive(Debug, Default)]
struct BusyBuckets {
    send: Bucket,
    wrong_key: Bucket,
    exceeded: Bucket,
    is_deaf: bool,
}

impl Visitor {
    /// The buckets of a new connection. If its address is unknown, only the limits of the
    /// connection apply.
    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        Self { address, set: Bucket::default(), busy: None }
    }

    /// Whether the connection ignored the rate limits too often.
    pub(crate) fn is_deaf(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.is_deaf)
    }

    /// Counts a `set` or `unset`.
    ///
    /// # Errors
    /// [`TooOften`].
    pub(crate) fn set(&mut self, rates: &RateLimiter, limits: &Limits) -> Result<(), TooOften> {
        self.count(BucketKind::Set, limits.set, rates, |visitor| &mut visitor.set)
    }

    /// Counts a request without the right key.
    ///
    /// # Errors
    /// [`TooOften`].
    pub(crate) fn send(&mut self, rates: &RateLimiter, limits: &Limits) -> Result<(), TooOften> {
        self.count(BucketKind::Send, limits.send, rates, |visitor| &mut visitor.busy().send)
    }

    /// Counts a wrong key.
    ///
    /// # Errors
    /// [`TooOften`].
    pub(crate) fn wrong_key(
        &mut self,
        rates: &RateLimiter,
        limits: &Limits,
    ) -> Result<(), TooOften> {
        self.count(BucketKind::WrongKey, limits.wrong_key, rates, |visitor| {
            &mut visitor.busy().wrong_key
        })
    }

    /// Takes from the bucket of the connection, which `own` returns, and from that of its address.
    fn count(
        &mut self,
        kind: BucketKind,
        rate: Option<Rate>,
        rates: &RateLimiter,
        own: impl FnOnce(&mut Self) -> &mut Bucket,
    ) -> Result<(), TooOften> {
        let Some(rate) = rate else { return Ok(()) };
        let now = rates.now();
        let result = own(self).take(rate, now).and_then(|()| match self.address {
            Some(address) => rates.take(address, kind, rate.of_address(), now),
            None => Ok(()),
        });
        if result.is_err() {
            self.note_exceeded(now);
        }
        result
    }

    fn busy(&mut self) -> &mut BusyBuckets {
        self.busy.get_or_insert_default()
    }

    fn note_exceeded(&mut self, now: Moment) {
        let busy = self.busy();
        busy.is_deaf |= MAY_EXCEED.is_some_and(|rate| busy.exceeded.take(rate, now).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_until_refused(visitor: &mut Visitor, rates: &RateLimiter, limits: &Limits) -> u32 {
        (0..).find(|_| visitor.send(rates, limits).is_err()).unwrap()
    }

    /// A limit of `burst` requests. Its rate is so low that the duration of a test does not matter.
    fn limits(burst: u32) -> Limits {
        Limits { send: Rate::new(1, burst), ..Limits::default() }
    }

    #[test]
    fn connections_of_an_address_share_twenty_times_what_each_may() {
        let (rates, limits) = (RateLimiter::default(), limits(4));
        let address = Some("192.0.2.7".parse().unwrap());
        let sent: Vec<u32> = (0..22)
            .map(|_| send_until_refused(&mut Visitor::new(address), &rates, &limits))
            .collect();
        assert_eq!((sent[0], sent[19], sent[21]), (4, 4, 0));
        assert_eq!(send_until_refused(&mut Visitor::new(None), &rates, &limits), 4);
    }

    #[test]
    fn what_is_not_limited_is_not_counted() {
        let limits = Limits { send: None, ..Limits::default() };
        let mut visitor = Visitor::new(None);
        assert!((0..10_000).all(|_| visitor.send(&RateLimiter::default(), &limits).is_ok()));
    }

    #[test]
    fn a_connection_that_ignores_the_limits_is_deaf() {
        let (rates, limits) = (RateLimiter::default(), limits(1));
        let mut visitor = Visitor::new(None);
        let told = (0..).take_while(|_| {
            let _ = visitor.send(&rates, &limits);
            !visitor.is_deaf()
        });
        // The count is higher than 1,000 if the test takes seconds.
        assert!(told.count() >= 1_000);
    }
}
