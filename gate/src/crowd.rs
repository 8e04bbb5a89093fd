//! How much of the gate one address may take, and all unfinished handshakes together.
//!
//! Counted before TLS, so that a stranger costs a socket and no cryptography. Each count is held
//! by a guard of the connection and given back when that is dropped.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::ip_prefix::ip_prefix;
use tokio::sync::oneshot;

/// The bounds that strangers meet before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one address; further ones are closed.
    pub connections_per_address: usize,
    /// Unfinished handshakes of one address; further ones are closed.
    pub handshakes_per_address: usize,
    /// Unfinished handshakes in all; beyond, the oldest is closed and the newcomer stays.
    pub handshakes: usize,
}

/// Why a connection is closed before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Connections,
    Handshakes,
}

impl Refusal {
    /// Of what there are too many.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Connections => "connections from this address",
            Self::Handshakes => "unfinished handshakes from this address",
        }
    }
}

/// Everyone who is connected, by address.
#[derive(Debug)]
pub(crate) struct Crowd {
    limits: Limits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    addresses: HashMap<IpAddr, Counts>,
    /// By age. Dropping one tells its connection to end.
    unfinished: BTreeMap<u64, oneshot::Sender<()>>,
    next: u64,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
}

impl Crowd {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, inner: Mutex::default() })
    }

    /// Counts a connection from `address`, and its handshake, unless that address has too many.
    ///
    /// If that makes too many handshakes in all, the oldest one learns it from its
    /// [`Handshake::overtaken`].
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<(Guest, Handshake), Refusal> {
        let address = ip_prefix(address);
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let counts = inner.addresses.entry(address).or_default();
        // Whoever is refused here has others, so no empty entry is left behind.
        if counts.connections >= self.limits.connections_per_address {
            return Err(Refusal::Connections);
        }
        if counts.handshakes >= self.limits.handshakes_per_address {
            return Err(Refusal::Handshakes);
        }
        counts.connections += 1;
        counts.handshakes += 1;
        if inner.unfinished.len() >= self.limits.handshakes {
            inner.unfinished.pop_first();
        }
        let number = inner.next;
        inner.next += 1;
        let (alive, overtaken) = oneshot::channel();
        inner.unfinished.insert(number, alive);
        let guest = Guest { crowd: Arc::clone(self), address };
        Ok((guest, Handshake { crowd: Arc::clone(self), address, number, overtaken }))
    }

    /// Unfinished handshakes.
    pub(crate) fn handshakes(&self) -> usize {
        self.inner.lock().unfinished.len()
    }
}

/// A counted connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inner = self.crowd.inner.lock();
        inner.forget(self.address, |counts| counts.connections -= 1);
    }
}

/// A counted handshake, until it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    crowd: Arc<Crowd>,
    address: IpAddr,
    number: u64,
    overtaken: oneshot::Receiver<()>,
}

impl Handshake {
    /// Ends when this is the oldest of too many handshakes. Cancel safe.
    pub(crate) async fn overtaken(&mut self) {
        // Nothing is ever sent: an error is what tells it.
        let _ = (&mut self.overtaken).await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut inner = self.crowd.inner.lock();
        inner.unfinished.remove(&self.number);
        inner.forget(self.address, |counts| counts.handshakes -= 1);
    }
}

impl Inner {
    fn forget(&mut self, address: IpAddr, part: impl FnOnce(&mut Counts)) {
        let Some(counts) = self.addresses.get_mut(&address) else { return };
        part(counts);
        if counts.connections > 0 || counts.handshakes > 0 {
            return;
        }
        self.addresses.remove(&address);
        // A wave of strangers shall not leave its memory behind.
        if self.addresses.capacity() > 4 * (self.addresses.len() + 64) {
            self.addresses.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn crowd(connections: usize, each: usize, all: usize) -> Arc<Crowd> {
        Crowd::new(Limits {
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
        let crowd = crowd(2, 1, 100);
        let (first, handshake) = crowd.admit(ip("10.0.0.1")).unwrap();
        assert_eq!(crowd.admit(ip("10.0.0.1")).unwrap_err(), Refusal::Handshakes);
        let _other = crowd.admit(ip("10.0.0.2")).unwrap();
        drop(handshake);
        let (_second, handshake) = crowd.admit(ip("10.0.0.1")).unwrap();
        drop(handshake);
        assert_eq!(crowd.admit(ip("10.0.0.1")).unwrap_err(), Refusal::Connections);
        drop(first);
        let _third = crowd.admit(ip("10.0.0.1")).unwrap();
    }

    #[test]
    fn an_ipv6_prefix_counts_as_one_address() {
        let crowd = crowd(100, 1, 100);
        let _held = crowd.admit(ip("2001:db8:1:2::1")).unwrap();
        assert!(crowd.admit(ip("2001:db8:1:2:ffff::2")).is_err());
        assert!(crowd.admit(ip("2001:db8:1:3::1")).is_ok());
    }

    #[test]
    fn the_oldest_handshake_gives_way_to_the_newcomer() {
        let crowd = crowd(100, 100, 2);
        let mut held: Vec<_> = (0..3).map(|_| crowd.admit(ip("10.0.0.1")).unwrap()).collect();
        assert_eq!(crowd.handshakes(), 2);
        let mut gone = |index: usize| held[index].1.overtaken().now_or_never().is_some();
        assert_eq!([gone(0), gone(1), gone(2)], [true, false, false]);
        // A finished one is none of them any more.
        drop(held.remove(1));
        held.push(crowd.admit(ip("10.0.0.1")).unwrap());
        assert!(held.iter_mut().skip(1).all(|(_, it)| it.overtaken().now_or_never().is_none()));
    }

    #[test]
    fn nothing_is_left_of_those_who_left() {
        let crowd = crowd(100, 100, 100);
        let wave: Vec<_> =
            (0..5_000u32).map(|n| crowd.admit(IpAddr::V4(n.into())).unwrap()).collect();
        drop(wave);
        let inner = crowd.inner.lock();
        assert_eq!((inner.addresses.len(), inner.unfinished.len()), (0, 0));
        assert!(inner.addresses.capacity() < 1_000);
    }
}
