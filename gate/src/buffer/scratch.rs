//! The buffers of a thread. Its connections borrow them for one synchronous step at a time.

use std::cell::RefCell;

/// How many bytes are read at once: four TLS records of the largest size. A busy connection then
/// costs one system call for 64 KiB, and not one for each record.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The largest TLS record on the wire, in bytes: a header of 5, and 2^14 + 2048 of ciphertext (RFC
/// 5246 section 6.2.3; TLS 1.3 allows less).
pub(crate) const RECORD: usize = 5 + 16 * 1024 + 2048;

thread_local! {
    /// The buffers are borrowed within one poll, never across an `.await`.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        raw: vec![0; CHUNK + RECORD].into_boxed_slice(),
        plain: Vec::with_capacity(CHUNK + RECORD),
        output: Output { bytes: vec![0; CHUNK + RECORD].into_boxed_slice(), filled: 0 },
    });
}

pub(crate) struct Scratch {
    /// Bytes as read from a socket.
    pub(crate) raw: Box<[u8]>,
    /// Plaintext.
    pub(crate) plain: Vec<u8>,
    pub(crate) output: Output,
}

/// Lends the buffers of this thread, emptied: after a panic they may still hold bytes of another
/// connection.
pub(crate) fn with<T>(borrow: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.plain.clear();
        scratch.output.filled = 0;
        borrow(scratch)
    })
}

/// Ciphertext to be sent to a client.
pub(crate) struct Output {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Output {
    /// The unused space. After writing into it, call [`Output::fill`].
    pub(crate) fn spare_capacity(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Grows the unused space to at least `more` bytes.
    pub(crate) fn reserve(&mut self, more: usize) {
        let needed = self.filled + more;
        if needed > self.bytes.len() {
            let mut bytes = std::mem::take(&mut self.bytes).into_vec();
            bytes.resize(needed, 0);
            self.bytes = bytes.into_boxed_slice();
        }
    }

    pub(crate) fn fill(&mut self, count: usize) {
        self.filled += count;
    }

    /// Takes all bytes and leaves the output empty.
    pub(crate) fn take(&mut self) -> &[u8] {
        &self.bytes[..std::mem::take(&mut self.filled)]
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn after_a_panic_nobody_gets_anothers_bytes() {
        let panicked = catch_unwind(|| {
            with(|scratch| {
                scratch.plain.extend(b"secret");
                scratch.output.fill(6);
                panic!("a defect");
            })
        });
        panicked.unwrap_err();
        with(|scratch| {
            assert_eq!(scratch.output.take(), b"");
            assert_eq!(scratch.plain, b"");
        });
    }
}
