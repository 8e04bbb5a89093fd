//! Detects a renewed certificate and serves it without a restart.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shared::service;
use shared::shutdown::{Hangups, Shutdown};

use crate::gate::Gate;
use crate::pem::PemWatch;

/// How often the log repeats that the certificate expires soon.
const REMINDER: Duration = Duration::from_secs(24 * 60 * 60);

/// Checks the PEM files every `interval` and at each SIGHUP, and serves a changed certificate. Ends
/// at the stop signal.
pub(crate) async fn follow(
    gate: Arc<Gate>,
    mut watch: PemWatch,
    interval: Duration,
    mut hangups: Hangups,
    shutdown: Shutdown,
) {
    if watch.unrepeatable {
        tracing::info!(
            "{} cannot be read twice; restart gate to renew the certificate",
            watch.files
        );
    }
    let mut reminder = Reminder::new(SystemTime::now());
    loop {
        let requested = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            () = hangups.next() => true,
            () = tokio::time::sleep(interval) => false,
        };
        if requested {
            service::reloading();
        }
        // The files are read on a thread of their own: a file system may hang, and must not block
        // connections.
        let checked = tokio::task::spawn_blocking(move || {
            let outcome = watch.check(requested);
            (watch, outcome)
        });
        let checked = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            checked = checked => checked,
        };
        let Ok((returned, outcome)) = checked else {
            tracing::error!(
                "internal error: gate no longer notices new certificates in the PEM file; restart \
                 gate now and report this error with the log"
            );
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
        if requested {
            service::ready();
        }
        if reminder.is_due(SystemTime::now())
            && let Some(warning) = gate.served.load().identity.time_warning(SystemTime::now())
        {
            tracing::warn!("{warning}");
        }
    }
}

/// The time when the last reminder of the expiry was logged.
#[derive(Debug)]
struct Reminder {
    told: SystemTime,
}

impl Reminder {
    fn new(told: SystemTime) -> Self {
        Self { told }
    }

    /// True at most once a day.
    fn is_due(&mut self, now: SystemTime) -> bool {
        let due = now.duration_since(self.told).is_ok_and(|passed| passed >= REMINDER);
        if due {
            self.told = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_come_once_a_day() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let hours = |hours: u64| start + Duration::from_secs(hours * 60 * 60);
        let mut reminder = Reminder::new(start);
        let due: Vec<u64> = (0..60).filter(|hour| reminder.is_due(hours(*hour))).collect();
        assert_eq!(due, [24, 48]);
        assert!(!reminder.is_due(hours(2)));
    }
}
