//! Asks the kernel how many sent bytes the peer has not acknowledged.

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// The ioctl `SIOCOUTQ` of tcp(7). It has the same number as `TIOCOUTQ`.
const SIOCOUTQ: Opcode = 0x5411;

/// The number of unacknowledged bytes, where the end of the stream counts as one. On a Unix socket,
/// the number of bytes that the peer has not read. 0 if the kernel reports an error.
#[allow(unsafe_code, reason = "no crate has a safe interface for it")]
pub(super) fn unsent(socket: &impl AsFd) -> usize {
    // SAFETY: SIOCOUTQ writes one int and reads nothing (tcp(7)). Getter<_, c_int> provides the
    // memory for that int. The descriptor is borrowed, so it is open.
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
        // The peer has read the end of the stream, so all bytes have arrived. The acknowledgement
        // may not have arrived yet.
        while unsent(&near) > 0 {
            std::thread::yield_now();
        }
    }
}
