//! Source addresses for connections to a server on this machine.
//!
//! Two addresses and two ports identify a connection. From one source address to one port of the
//! server, there are only as many connections as ephemeral ports: 28,232 on Linux by default. Once
//! half of these ports are in use, each connect takes thirty times as long (docs/internals.md),
//! because the kernel first tries all odd or all even ports one by one. All addresses of
//! 127.0.0.0/8 belong to this machine, so the gate uses more than one as source address.
//!
//! All connections come from 127.0.0.1 until this address has reached its share, because servers
//! may have rules for 127.0.0.1 (such as `allow 127.0.0.1`).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};

/// The number of source addresses: 127.0.0.1 to 127.0.0.64. With the default range of ports, they
/// allow 700,000 fast connects, and 1.8 million connections in all.
const ADDRESSES: u8 = 64;

/// The default range of ephemeral ports on Linux, used if the system's setting cannot be read.
const USUAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// The source addresses, and the number of open connections of each.
#[derive(Debug)]
pub(crate) struct SourceAddresses {
    open: Arc<[AtomicU32; ADDRESSES as usize]>,
    /// How many connections an address gets before the next one is used.
    share: u32,
}

/// Counts one connection for its source address. Dropping the lease ends the count.
#[derive(Debug)]
pub(crate) struct Lease {
    open: Arc<[AtomicU32; ADDRESSES as usize]>,
    index: u8,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.open[usize::from(self.index)].fetch_sub(1, Ordering::Relaxed);
    }
}

impl SourceAddresses {
    pub(crate) fn new() -> Self {
        Self::with_ports(&ephemeral_ports())
    }

    fn with_ports(ports: &RangeInclusive<u16>) -> Self {
        let open = std::array::from_fn(|_| AtomicU32::new(0));
        Self { open: Arc::new(open), share: share(ports) }
    }

    /// Connects to a loopback address, from the first source address that has fewer connections
    /// than its share.
    ///
    /// # Errors
    /// The errors of connect(2); `AddrNotAvailable` if no source address has a free port.
    pub(crate) async fn connect(&self, to: SocketAddrV4) -> io::Result<(TcpStream, Lease)> {
        let mut exhausted = io::Error::from(io::ErrorKind::AddrNotAvailable);
        // The count includes neither the connections of other programs nor closed connections,
        // which keep their ports for one more minute (TIME_WAIT). So a source address may be full
        // although its count is low. Addresses above their share may still have free ports and are
        // tried last.
        let (preferred, others): (Vec<u8>, Vec<u8>) =
            (0..ADDRESSES).partition(|&index| self.has_room(index));
        for index in preferred.into_iter().chain(others) {
            let lease = self.lease(index);
            match connect_from(index, to).await {
                Ok(stream) => return Ok((stream, lease)),
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => exhausted = error,
                Err(error) => return Err(error),
            }
        }
        Err(exhausted)
    }

    fn has_room(&self, index: u8) -> bool {
        self.open[usize::from(index)].load(Ordering::Relaxed) < self.share
    }

    fn lease(&self, index: u8) -> Lease {
        self.open[usize::from(index)].fetch_add(1, Ordering::Relaxed);
        Lease { open: Arc::clone(&self.open), index }
    }
}

/// Connects from 127.0.0.(index + 1). Index 0 needs no bind, because the kernel uses 127.0.0.1 by
/// itself.
async fn connect_from(index: u8, to: SocketAddrV4) -> io::Result<TcpStream> {
    if index == 0 {
        return TcpStream::connect(to).await;
    }
    let socket = TcpSocket::new_v4()?;
    // Without this option, bind would reserve a port for all destinations.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, index + 1), 0)))?;
    socket.connect(SocketAddr::V4(to)).await
}

/// The share of one address: two fifths of its ports. Connects are fast while less than half of the
/// ports are in use. The remaining tenth is for connections that are not counted.
fn share(ports: &RangeInclusive<u16>) -> u32 {
    let count = u32::from(ports.end().saturating_sub(*ports.start())) + 1;
    (count * 2 / 5).max(1)
}

fn ephemeral_ports() -> RangeInclusive<u16> {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| {
            let mut numbers = text.split_whitespace().map(str::parse);
            Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
        })
        .unwrap_or(USUAL_PORTS)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_share_is_below_half_of_the_ports() {
        assert_eq!(share(&USUAL_PORTS), 11_292);
        assert_eq!(share(&(40_000..=40_099)), 40);
        assert_eq!(share(&(7..=7)), 1);
        assert!(!ephemeral_ports().is_empty());
    }

    #[tokio::test]
    async fn the_next_address_is_used_when_one_has_its_share() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(to) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        let sources = SourceAddresses::with_ports(&(1..=5));
        let mut held = Vec::new();
        let mut from = async || {
            held.push(sources.connect(to).await.unwrap());
            listener.accept().await.unwrap().1.ip().to_string()
        };
        assert_eq!(
            [from().await, from().await, from().await, from().await, from().await],
            ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3"]
        );
        // The next connection comes from the lowest address again, because one of its connections
        // has closed.
        held.remove(0);
        held.push(sources.connect(to).await.unwrap());
        assert_eq!(listener.accept().await.unwrap().1.ip(), Ipv4Addr::LOCALHOST);
    }

    #[tokio::test]
    async fn a_refusal_gives_the_place_back() {
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let SocketAddr::V4(to) = reserved.local_addr().unwrap() else { panic!("not IPv4") };
        let sources = SourceAddresses::new();
        let error = sources.connect(to).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(sources.open.iter().all(|open| open.load(Ordering::Relaxed) == 0));
    }
}
