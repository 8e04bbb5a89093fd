//! How often clients may do what costs the server something.

use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;

use crate::access::addresses::{Addresses, BucketKind};
use crate::access::bucket::{Moment, Rate, TooOften};

/// What is limited. None: it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// WebSockets opened by an address.
    pub connect: Option<Rate>,
    /// `set` and `unset` of a connection; an address may do 20 times that, here and below.
    pub set: Option<Rate>,
    /// Everything else that a connection says without a right key.
    pub send: Option<Rate>,
    /// Wrong keys.
    pub wrong_key: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Rate::new(200, 4_096),
            set: Rate::new(50, 400),
            send: Rate::new(200, 400),
            wrong_key: Rate::new(1, 10),
        }
    }
}

/// The buckets of all addresses, and the clock.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    begun: Instant,
    addresses: Mutex<Addresses>,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self { begun: Instant::now(), addresses: Mutex::default() }
    }
}

impl RateLimiter {
    pub(super) fn now(&self) -> Moment {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts a WebSocket of `address`.
    ///
    /// # Errors
    /// [`TooOften`]. An address that is not known has no limit.
    pub(crate) fn connect(&self, limits: &Limits, address: Option<IpAddr>) -> Result<(), TooOften> {
        match (limits.connect, address) {
            (Some(rate), Some(address)) => {
                self.take(address, BucketKind::Connect, rate, self.now())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn take(
        &self,
        address: IpAddr,
        kind: BucketKind,
        rate: Rate,
        now: Moment,
    ) -> Result<(), TooOften> {
        self.addresses.lock().bucket(address, kind, now).take(rate, now)
    }
}
