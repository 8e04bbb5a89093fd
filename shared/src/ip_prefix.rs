//! Which addresses count as one client in limits.

use std::net::{IpAddr, Ipv6Addr};

/// Returns an IPv4 address as it is, and of an IPv6 address the /64 prefix. A customer has one IPv4
/// address, but at least 2^64 IPv6 addresses (RFC 6177 gives an end site a /64 or more).
#[must_use]
pub fn ip_prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
    }
}
