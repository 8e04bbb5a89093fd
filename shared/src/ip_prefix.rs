//! What counts as one address.

use std::net::{IpAddr, Ipv6Addr};

/// The address, or the /64 that it belongs to: a customer has one IPv4 address, but at least 2^64
/// IPv6 ones (RFC 6177 gives an end site a /64 or more).
#[must_use]
pub fn ip_prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & (u128::MAX << 64))),
    }
}
