//! Converts a report to bytes and back. Numbers are in little-endian.

use bytes::{Buf as _, BufMut as _, Bytes};

/// The version of the format. Reports of another version are ignored.
const VERSION: u8 = 2;
/// How many counts a report has at most. Such a report is no larger than the largest entry.
pub(super) const COUNTS: usize = 4 * 1024;

/// The report of a server to the other servers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The epoch of the log, as a number.
    pub(super) epoch: u64,
    pub(super) server: u64,
    /// Whether this is the last report of a server that stops.
    pub(super) leaves: bool,
    /// The number of the report. Each server counts its reports, so that a lost one is noticed.
    pub(super) number: u64,
    pub(super) head: u64,
    pub(super) counts: Vec<(u64, u64)>,
}

impl Report {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(34 + 16 * self.counts.len());
        bytes.put_u8(VERSION);
        bytes.put_u8(self.leaves.into());
        bytes.put_u64_le(self.epoch);
        bytes.put_u64_le(self.server);
        bytes.put_u64_le(self.number);
        bytes.put_u64_le(self.head);
        for (seq, count) in &self.counts {
            bytes.put_u64_le(*seq);
            bytes.put_u64_le(*count);
        }
        bytes.into()
    }

    /// Decodes a report. `None` if the bytes are no report of this version.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let leaves = bytes.try_get_u8().ok()? != 0;
        let [epoch, server, number, head] = [
            bytes.try_get_u64_le().ok()?,
            bytes.try_get_u64_le().ok()?,
            bytes.try_get_u64_le().ok()?,
            bytes.try_get_u64_le().ok()?,
        ];
        let (pairs, []) = bytes.as_chunks::<16>() else { return None };
        let pairs = pairs.iter().take(COUNTS).map(|pair| &pair[..]);
        let counts = pairs.map(|mut pair| (pair.get_u64_le(), pair.get_u64_le())).collect();
        Some(Self { epoch, server, leaves, number, head, counts })
    }
}
