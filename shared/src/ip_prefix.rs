//! What counts as one client address in limits.

use std::net::{IpAddr, Ipv6Addr};

/// The IPv4 address, or the /64 of an IPv6 address. A customer has one IPv4 address, but at least
/// 2^64 IPv6 addresses (RFC 6177 gives an end site a /64 or more).
#[must_use]
pub fn ip_prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
    }
}
