//! The rate limits of connections and addresses.

use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;

use crate::access::addresses::{Addresses, BucketKind};
use crate::access::bucket::{Moment, Rate, TooOften};

/// The rate limits; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The limit of WebSockets that an address opens.
    pub connect: Option<Rate>,
    /// The limit of `set` and `unset` on a connection. For all connections of an address together,
    /// this limit and the two below are 20 times as high.
    pub set: Option<Rate>,
    /// The limit of other requests on a connection that come without a right key.
    pub send: Option<Rate>,
    /// The limit of requests with a wrong key on a connection.
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

/// The buckets of all addresses.
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

    /// Counts a WebSocket that `address` opens.
    ///
    /// # Errors
    /// [`TooOften`]. An unknown address has no limit.
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
