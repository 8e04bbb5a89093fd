//! The buffers of a thread. Each connection borrows them for one synchronous step at a time.

use std::cell::RefCell;

/// The number of bytes read at once: four TLS records of the largest size. A busy connection then
/// needs one system call for 64 KiB instead of one for each record.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The largest TLS record with its header of 5 bytes: TLS 1.2 allows 2048 bytes more than the
/// plaintext (RFC 5246, 6.2.3), TLS 1.3 only 256 (RFC 8446, 5.2).
pub(crate) const RECORD: usize = 5 + 16 * 1024 + 2048;

thread_local! {
    /// A connection borrows these buffers within one poll, never across an `.await`.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        raw: vec![0; CHUNK + RECORD].into_boxed_slice(),
        plain: Vec::with_capacity(CHUNK + RECORD),
        output: Output { bytes: vec![0; CHUNK + RECORD].into_boxed_slice(), filled: 0 },
    });
}

pub(crate) struct Scratch {
    /// Bytes as they were read from a socket.
    pub(crate) raw: Box<[u8]>,
    /// Decrypted bytes from a client.
    pub(crate) plain: Vec<u8>,
    pub(crate) output: Output,
}

/// Lends the buffers of this thread. They are emptied first, because after a panic they may still
/// hold bytes of another connection.
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
    /// The unused space. The caller writes into it and then calls [`Output::fill`].
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

    /// Returns all the ciphertext, and empties the output.
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
