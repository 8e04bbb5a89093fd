//! The counters of a log.

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Appending;
use crate::histogram::Histogram;
use crate::protocol::{Outcome, Refusal};

/// The counts of appends and commits since the start of the process.
#[derive(Debug)]
pub(crate) struct Counts {
    /// The number of appends by outcome.
    pub(crate) appends: Family<OutcomeLabel, Counter>,
    /// The durations of commits, failed ones included.
    pub(crate) commits: Mutex<Histogram>,
    ok: Counter,
    refused: Counter,
    unknown: Counter,
}

/// The label that names the outcome of an append.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    outcome: &'static str,
}

impl Default for Counts {
    fn default() -> Self {
        let appends = Family::<OutcomeLabel, Counter>::default();
        let of = |outcome| appends.get_or_create_owned(&OutcomeLabel { outcome });
        let ok = of("ok");
        let (refused, unknown) = (of(Outcome::Refused.as_str()), of(Outcome::Unknown.as_str()));
        Self { appends, commits: Mutex::default(), ok, refused, unknown }
    }
}

impl Counts {
    /// Counts entries that are in the log, whatever their effect was.
    pub(super) fn appended(&self, entries: usize) {
        self.ok.inc_by(entries as u64);
    }

    /// Counts a refused append and answers it.
    pub(super) fn refuse(&self, refusal: Refusal) -> Appending {
        self.failed(1, Outcome::Refused);
        Appending::Done(Err(refusal))
    }

    /// Counts entries that are not in the log, or may not be.
    pub(super) fn failed(&self, entries: usize, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Refused => &self.refused,
            Outcome::Unknown => &self.unknown,
        };
        counter.inc_by(entries as u64);
    }
}
