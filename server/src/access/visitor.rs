//! Who a connection comes from, and what it has done of late.

use std::net::IpAddr;

use crate::access::addresses::BucketKind;
use crate::access::bucket::{Bucket, Moment, Rate, TooOften};
use crate::access::rate_limit::{Limits, RateLimiter};

/// How often a connection may be told that it does something too often: then it does not care.
const TOLD: Option<Rate> = Rate::new(10, 1_000);

/// A connection's allowances. Small, because an idle one keeps it.
#[derive(Debug)]
pub(crate) struct Visitor {
    address: Option<IpAddr>,
    set: Bucket,
    /// Of those that do more than to listen.
    busy: Option<Box<Busy>>,
}

#[derive(Debug, Default)]
struct Busy {
    send: Bucket,
    wrong_key: Bucket,
    told: Bucket,
    is_deaf: bool,
}

impl Visitor {
    /// A connection that has not done anything. One whose address nobody knows has no limits but
    /// its own.
    #[must_use]
    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        Self { address, set: Bucket::default(), busy: None }
    }

    /// Where it comes from.
    #[must_use]
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether it goes on and on with what it was refused.
    #[must_use]
    pub(crate) fn is_deaf(&self) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.is_deaf)
    }

    /// Counts a `set` or `unset`.
    ///
    /// # Errors
    /// [`TooOften`], here and below.
    pub(crate) fn set(&mut self, rates: &RateLimiter, limits: &Limits) -> Result<(), TooOften> {
        self.count(BucketKind::Set, limits.set, rates, |visitor| &mut visitor.set)
    }

    /// Counts what was said without a right key.
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

    /// Counts it for the connection, in its `own` bucket, and for its address.
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
            self.note_told(now);
        }
        result
    }

    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    fn note_told(&mut self, now: Moment) {
        let busy = self.busy();
        busy.is_deaf |= TOLD.is_some_and(|rate| busy.told.take(rate, now).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_until_refused(visitor: &mut Visitor, rates: &RateLimiter, limits: &Limits) -> u32 {
        (0..).find(|_| visitor.send(rates, limits).is_err()).unwrap()
    }

    /// So slow that no time passes.
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
    fn one_that_goes_on_and_on_is_deaf() {
        let (rates, limits) = (RateLimiter::default(), limits(1));
        let mut visitor = Visitor::new(None);
        let told = (0..).take_while(|_| {
            let _ = visitor.send(&rates, &limits);
            !visitor.is_deaf()
        });
        // More if it took seconds.
        assert!(told.count() >= 1_000);
    }
}
