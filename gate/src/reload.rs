//! The certificate while the gate runs: looked at again and again, swapped when it was renewed.
//!
//! The paths are opened afresh each time, so it does not matter how a file is replaced: written
//! in place, renamed over, or behind a symbolic link that was turned elsewhere, be it the file's
//! or a directory's. File change notification would miss the last two.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shared::service;
use shared::shutdown::{Hangups, Shutdown};

use crate::Gate;
use crate::error::Error;
use crate::pem::{Content, Identity, Source, Trace};

/// How often a certificate that expires soon is told of.
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// The files of a certificate, and how they were at the last look.
#[derive(Debug, Clone)]
pub struct Watch {
    source: Source,
    /// The files cannot be read again.
    once: bool,
    traces: Vec<Trace>,
    settled: bool,
    found: Found,
    /// Keyed at random, so that what is kept tells nothing of the private key.
    hasher: RandomState,
}

/// What the last look found, to tell whether the next one finds something else.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Content(u64),
    Unreadable(String),
}

impl Found {
    fn content(contents: &[Content], hasher: &RandomState) -> Self {
        let bytes: Vec<_> = contents.iter().map(|content| &content.bytes).collect();
        Self::Content(hasher.hash_one(bytes))
    }
}

impl Watch {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn open(source: Source) -> Result<(Self, Identity), Error> {
        let hasher = RandomState::new();
        // Before reading: a change in between then shows at the next look.
        let traces = source.traces();
        let contents = source.read()?;
        let identity = Identity::from_contents(&contents)?;
        let found = Found::content(&contents, &hasher);
        let settled = is_settled(&traces);
        let once = is_unrepeatable(&traces);
        Ok((Self { source, once, traces, settled, found, hasher }, identity))
    }

    /// Looks at the files again: at their metadata, and where that changed or `thoroughly`, at
    /// their content. `None` if nothing has changed since the last look.
    ///
    /// # Errors
    /// As [`Source::load`], once for each change.
    pub fn look(&mut self, thoroughly: bool) -> Option<Result<Identity, Error>> {
        if self.once {
            return None;
        }
        let traces = self.source.traces();
        if !thoroughly && self.settled && traces == self.traces {
            return None;
        }
        self.settled = is_settled(&traces);
        self.traces = traces;
        // To open a pipe might wait for ever.
        let contents =
            if is_unrepeatable(&self.traces) { Err(self.pipe()) } else { self.source.read() };
        let found = match &contents {
            Ok(contents) => Found::content(contents, &self.hasher),
            Err(error) => Found::Unreadable(error.to_string()),
        };
        if !thoroughly && found == self.found {
            return None;
        }
        self.found = found;
        Some(contents.and_then(|contents| Identity::from_contents(&contents)))
    }

    fn pipe(&self) -> Error {
        let source = io::Error::other("it is a pipe or a device now; put a file in its place");
        Error::Read { file: self.source.to_string().into(), source }
    }
}

/// A pipe, as of `<(cat …)`, cannot be read twice.
fn is_unrepeatable(traces: &[Trace]) -> bool {
    traces.contains(&Trace::Unrepeatable)
}

fn is_settled(traces: &[Trace]) -> bool {
    let now = SystemTime::now();
    traces.iter().all(|trace| trace.is_settled(now))
}

/// Keeps what `gate` serves up to date until the stop: looks every `interval`, and on SIGHUP.
pub(crate) async fn follow(
    gate: Arc<Gate>,
    mut watch: Watch,
    interval: Duration,
    mut hangups: Hangups,
    shutdown: Shutdown,
) {
    if watch.once {
        tracing::info!("{} cannot be read twice: renewal needs a restart", watch.source);
    }
    let mut reminder = Reminder::new(SystemTime::now());
    loop {
        let asked = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            () = hangups.next() => true,
            () = tokio::time::sleep(interval) => false,
        };
        if asked {
            service::reloading();
        }
        // A file system may hang, and must not take a thread of the connections with it.
        let looked = tokio::task::spawn_blocking(move || {
            let outcome = watch.look(asked);
            (watch, outcome)
        });
        let looked = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            looked = looked => looked,
        };
        let Ok((returned, outcome)) = looked else {
            tracing::error!("a defect: the certificate is no longer watched; restart to renew it");
            return shutdown.stopping().await;
        };
        watch = returned;
        match outcome.map(|found| found.and_then(|identity| gate.serve(identity))) {
            None => {}
            Some(Ok(())) => reminder = Reminder::new(SystemTime::now()),
            Some(Err(error)) => {
                tracing::warn!("{error}; still serving the certificate from before");
            }
        }
        if asked {
            service::ready();
        }
        if reminder.is_due(SystemTime::now())
            && let Some(warning) = gate.served.load().identity.time_warning(SystemTime::now())
        {
            tracing::warn!("{warning}");
        }
    }
}

/// When to tell again of a certificate that expires.
#[derive(Debug)]
struct Reminder {
    told: SystemTime,
}

impl Reminder {
    fn new(told: SystemTime) -> Self {
        Self { told }
    }

    /// Once a day.
    fn is_due(&mut self, now: SystemTime) -> bool {
        let due = now.duration_since(self.told).is_ok_and(|passed| passed >= REMINDER);
        if due {
            self.told = now;
        }
        due
    }
}

#[cfg(test)]
mod tests;
