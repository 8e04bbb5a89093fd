//! Limits that apply before TLS: on the connections of one address, and on all unfinished
//! handshakes.
//!
//! Refusing a client costs one socket and no cryptography. Each count is held by a guard in the
//! connection, and ends when the guard is dropped.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::ip_prefix::ip_prefix;
use tokio::sync::oneshot;

/// The limits before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnLimits {
    /// Connections of one address at a time. Further connections are closed.
    pub(crate) connections_per_address: usize,
    /// Unfinished handshakes of one address at a time. Further connections are closed.
    pub(crate) handshakes_per_address: usize,
    /// Unfinished handshakes of all addresses at a time. Beyond this number, a new handshake closes
    /// the oldest one.
    pub(crate) handshakes: usize,
}

/// Why a connection is closed before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Connections,
    Handshakes,
}

impl Refusal {
    /// The end of a log line: the kind of connection that the address has too many of.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Connections => "connections from this address",
            Self::Handshakes => "unfinished handshakes from this address",
        }
    }
}

/// The counts of connections and unfinished handshakes, by address.
#[derive(Debug)]
pub(crate) struct ConnLimiter {
    limits: ConnLimits,
    state: Mutex<LimiterState>,
}

#[derive(Debug, Default)]
struct LimiterState {
    addresses: HashMap<IpAddr, AddressCounts>,
    /// Unfinished handshakes, oldest first. Dropping a sender ends its handshake.
    unfinished: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

#[derive(Debug, Default)]
struct AddressCounts {
    connections: usize,
    handshakes: usize,
}

impl ConnLimiter {
    pub(crate) fn new(limits: ConnLimits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// Counts a connection from `address` and its handshake. Refuses them if the address has too
    /// many.
    ///
    /// If all addresses together then have too many unfinished handshakes, the oldest one is
    /// evicted: its [`HandshakeGuard::evicted`] completes.
    pub(crate) fn admit(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<(ConnGuard, HandshakeGuard), Refusal> {
        let address = ip_prefix(address);
        let mut state = self.state.lock();
        let state = &mut *state;
        let counts = state.addresses.entry(address).or_default();
        // A refused address already has other connections, so `or_default` has not created an empty
        // entry.
        if counts.connections >= self.limits.connections_per_address {
            return Err(Refusal::Connections);
        }
        if counts.handshakes >= self.limits.handshakes_per_address {
            return Err(Refusal::Handshakes);
        }
        counts.connections += 1;
        counts.handshakes += 1;
        if state.unfinished.len() >= self.limits.handshakes {
            state.unfinished.pop_first();
        }
        let number = state.next;
        state.next += 1;
        let (evict, evicted) = oneshot::channel();
        state.unfinished.insert(number, evict);
        let guard = ConnGuard { limiter: Arc::clone(self), address };
        Ok((guard, HandshakeGuard { limiter: Arc::clone(self), address, number, evicted }))
    }

    /// The number of unfinished handshakes.
    pub(crate) fn handshakes(&self) -> usize {
        self.state.lock().unfinished.len()
    }
}

/// A counted connection. Dropping the guard ends the count.
#[derive(Debug)]
pub(crate) struct ConnGuard {
    limiter: Arc<ConnLimiter>,
    address: IpAddr,
}

impl Drop for ConnGuard {
    fn drop(&mut self) {
        let mut state = self.limiter.state.lock();
        state.release(self.address, |counts| counts.connections -= 1);
    }
}

/// A counted handshake. Dropping the guard ends the count.
#[derive(Debug)]
pub(crate) struct HandshakeGuard {
    limiter: Arc<ConnLimiter>,
    address: IpAddr,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl HandshakeGuard {
    /// Completes when there are too many unfinished handshakes and this handshake is the oldest.
    /// Cancel safe.
    pub(crate) async fn evicted(&mut self) {
        // This channel carries no message. The wait ends when the sender is dropped.
        let _ = (&mut self.evicted).await;
    }
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        let mut state = self.limiter.state.lock();
        state.unfinished.remove(&self.number);
        state.release(self.address, |counts| counts.handshakes -= 1);
    }
}

impl LimiterState {
    fn release(&mut self, address: IpAddr, part: impl FnOnce(&mut AddressCounts)) {
        let Some(counts) = self.addresses.get_mut(&address) else { return };
        part(counts);
        if counts.connections > 0 || counts.handshakes > 0 {
            return;
        }
        self.addresses.remove(&address);
        // After many clients have left, the map must free its memory too.
        if self.addresses.capacity() > 4 * (self.addresses.len() + 64) {
            self.addresses.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn limiter(connections: usize, each: usize, all: usize) -> Arc<ConnLimiter> {
        ConnLimiter::new(ConnLimits {
            connections_per_address: connections,
            handshakes_per_address: each,
            handshakes: all,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn handshakes_and_connections_of_an_address_are_bounded_apart() {
        let limiter = limiter(2, 1, 100);
        let (first, handshake) = limiter.admit(ip("10.0.0.1")).unwrap();
        assert_eq!(limiter.admit(ip("10.0.0.1")).unwrap_err(), Refusal::Handshakes);
        let _other = limiter.admit(ip("10.0.0.2")).unwrap();
        drop(handshake);
        let (_second, handshake) = limiter.admit(ip("10.0.0.1")).unwrap();
        drop(handshake);
        assert_eq!(limiter.admit(ip("10.0.0.1")).unwrap_err(), Refusal::Connections);
        drop(first);
        let _third = limiter.admit(ip("10.0.0.1")).unwrap();
    }

    #[test]
    fn an_ipv6_prefix_counts_as_one_address() {
        let limiter = limiter(100, 1, 100);
        let _held = limiter.admit(ip("2001:db8:1:2::1")).unwrap();
        assert!(limiter.admit(ip("2001:db8:1:2:ffff::2")).is_err());
        assert!(limiter.admit(ip("2001:db8:1:3::1")).is_ok());
    }

    #[test]
    fn the_oldest_handshake_gives_way_to_the_newest() {
        let limiter = limiter(100, 100, 2);
        let mut held: Vec<_> = (0..3).map(|_| limiter.admit(ip("10.0.0.1")).unwrap()).collect();
        assert_eq!(limiter.handshakes(), 2);
        let mut gone = |index: usize| held[index].1.evicted().now_or_never().is_some();
        assert_eq!([gone(0), gone(1), gone(2)], [true, false, false]);
        // A finished handshake is not counted any more.
        drop(held.remove(1));
        held.push(limiter.admit(ip("10.0.0.1")).unwrap());
        assert!(held.iter_mut().skip(1).all(|(_, it)| it.evicted().now_or_never().is_none()));
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let limiter = limiter(100, 100, 100);
        let wave: Vec<_> =
            (0..5_000u32).map(|n| limiter.admit(IpAddr::V4(n.into())).unwrap()).collect();
        drop(wave);
        let state = limiter.state.lock();
        assert_eq!((state.addresses.len(), state.unfinished.len()), (0, 0));
        assert!(state.addresses.capacity() < 1_000);
    }
}
