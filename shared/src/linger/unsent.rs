//! How much sent data the peer has not acknowledged.

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` of tcp(7); the same number as `TIOCOUTQ`.
const SIOCOUTQ: Opcode = 0x5411;

/// The number of unacknowledged bytes, including the end of stream. On a Unix socket: what the peer
/// has not read. 0 if the system does not answer.
#[allow(unsafe_code, reason = "no crate has a safe interface for it")]
pub(super) fn unsent(socket: &impl AsFd) -> usize {
    // SAFETY: SIOCOUTQ writes one int and reads nothing (tcp(7)); Getter<_, c_int> provides the
    // memory for it. The descriptor is borrowed, so it is open.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) };
    bytes.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_the_peer_has_no_room_for_is_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = near.write(&[7; 65_536]) {
            sent += count;
        }
        near.shutdown(Shutdown::Write).unwrap();
        let left = unsent(&near);
        assert!(left > 1 && left <= sent + 1, "{left} of {sent}");
        assert_eq!(far.read_to_end(&mut Vec::new()).unwrap(), sent);
        // The peer has read the end, so everything has arrived; the acknowledgement may still be on
        // its way.
        while unsent(&near) > 0 {
            std::thread::yield_now();
        }
    }
}
