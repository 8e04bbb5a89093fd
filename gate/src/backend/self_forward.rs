//! Detects a gate that would forward to itself. Each connection would open another one, until no
//! file descriptor is left.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use nix::ifaddrs::{InterfaceAddressIterator, getifaddrs};
use socket2::SockRef;

use super::Target;
use crate::error::Error;

/// The error's reason if the backend is the address that clients connect to.
pub(crate) const LISTENS: &str = "gate itself listens there";

/// Refuses a `target` that leads to one of the gate's own sockets, `listening`.
///
/// # Errors
/// [`Error::Usage`], with the reason `why`.
pub(crate) fn reject(target: &Target, listening: &[SocketAddr], why: &str) -> Result<(), Error> {
    let Some(own) = reached(target, listening) else { return Ok(()) };
    Err(Error::Usage(format!(
        "cannot forward to {own}: {why}; give the port of the server behind the gate, as in \
         gate 9091 9090 cert.pem"
    )))
}

/// The addresses at which clients reach a socket that a service manager opened. A socket on [::] is
/// also reached by IPv4, unless it is IPv6 only.
///
/// # Errors
/// If the kernel does not report the socket's address.
pub(crate) fn addresses_of(socket: &TcpListener) -> io::Result<Vec<SocketAddr>> {
    let at = socket.local_addr()?;
    let everywhere = at.is_ipv6() && at.ip().is_unspecified();
    let both = everywhere && SockRef::from(socket).only_v6().is_ok_and(|only| !only);
    let four = both.then(|| (Ipv4Addr::UNSPECIFIED, at.port()).into());
    Ok([at].into_iter().chain(four).collect())
}

/// The address of `target` that leads to one of the sockets `listening`, if there is one. A socket
/// on 0.0.0.0 is reached at every IPv4 address of this machine, one on [::] at every IPv6 address.
fn reached(target: &Target, listening: &[SocketAddr]) -> Option<SocketAddr> {
    reached_at(target, listening, is_of_this_machine)
}

fn reached_at(
    target: &Target,
    listening: &[SocketAddr],
    is_local: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    let Target::Tcp(addresses) = target else { return None };
    let ends_here = |to: &SocketAddr| {
        let ip = destination(to.ip());
        listening.iter().any(|at| {
            let its = at.ip().to_canonical();
            at.port() == to.port()
                && (its == ip
                    || (its.is_unspecified() && its.is_ipv4() == ip.is_ipv4() && is_local(ip)))
        })
    };
    addresses.iter().copied().find(ends_here)
}

/// The address that a connection to `ip` reaches: the kernel connects to the loopback address for
/// 0.0.0.0 and [::].
fn destination(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(four) if four.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(six) if six.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// Whether `ip` is an address of this machine. The function does not test this by a bind, because
/// the kernel can be set to allow a bind to every address. A confined service may be unable to list
/// its interfaces (`RestrictAddressFamilies=` without AF_NETLINK). Then only loopback addresses
/// count as addresses of this machine.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let has = |interfaces: InterfaceAddressIterator| {
        interfaces.filter_map(|interface| interface.address).any(|its| {
            its.as_sockaddr_in().is_some_and(|its| IpAddr::from(its.ip()) == ip)
                || its.as_sockaddr_in6().is_some_and(|its| IpAddr::from(its.ip()) == ip)
        })
    };
    // All of 127.0.0.0/8 belongs to this machine, although the interface lists only 127.0.0.1.
    ip.is_loopback() || getifaddrs().is_ok_and(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_own(target: &str, listening: &[&str]) -> bool {
        let listening: Vec<_> = listening.iter().map(|at| at.parse().unwrap()).collect();
        let elsewhere = IpAddr::from([192, 0, 2, 7]);
        let is_local = |ip: IpAddr| ip.is_loopback() || ip == elsewhere;
        reached_at(&Target::parse(target).unwrap(), &listening, is_local).is_some()
    }

    #[test]
    fn what_listens_everywhere_is_found_at_every_own_address() {
        let everywhere = ["0.0.0.0:9091", "[::]:9091"];
        for target in ["9091", "127.0.0.1:9091", "127.3.2.1:9091", "[::1]:9091", "0.0.0.0:9091"] {
            assert!(is_own(target, &everywhere), "{target}");
        }
        assert!(is_own("192.0.2.7:9091", &everywhere));
        for target in ["9090", "192.0.2.8:9091", "[2001:db8::1]:9091", "unix:9091"] {
            assert!(!is_own(target, &everywhere), "{target}");
        }
        // A socket of one family (IPv4 or IPv6) leaves the port of the other family free for the
        // server.
        assert!(!is_own("127.0.0.1:9091", &["[::]:9091"]));
        assert!(!is_own("[::1]:9091", &["0.0.0.0:9091"]));
    }

    #[test]
    fn one_address_is_found_there_only() {
        assert!(is_own("9091", &["127.0.0.1:9091"]));
        // The gate tries [::1] when nothing answers at 127.0.0.1.
        assert!(is_own("9091", &["[::1]:9091"]));
        assert!(is_own("[::ffff:127.0.0.1]:9091", &["127.0.0.1:9091"]));
        assert!(is_own("0.0.0.0:9091", &["127.0.0.1:9091"]));
        assert!(!is_own("9091", &["192.0.2.7:9091"]));
        assert!(!is_own("127.0.0.2:9091", &["127.0.0.1:9091"]));
    }

    #[test]
    fn addresses_of_interfaces_are_this_machines() {
        assert!(is_of_this_machine(Ipv6Addr::LOCALHOST.into()));
        assert!(is_of_this_machine([127, 0, 0, 1].into()));
        // This address is reserved for documentation, so no machine has it.
        assert!(!is_of_this_machine([203, 0, 113, 1].into()));
    }
}
