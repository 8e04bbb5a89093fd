//! Keys, tags and limits while the server runs: read again on SIGHUP.

use std::sync::Arc;

use shared::service;
use shared::shutdown::{Hangups, Shutdown};
use shared::telemetry::announce_text;

use crate::config::cli::RunArgs;
use crate::config::{Config, Demo, FixedOptions};
use crate::error::Error;
use crate::publish::Service;

/// Where a configuration came from, to read it there again.
#[derive(Debug)]
pub struct Source {
    /// The command line and the environment, which name the file.
    pub args: RunArgs,
    /// What tells when.
    pub hangups: Hangups,
}

/// Reads the configuration again on each SIGHUP until the stop. A good one is put in the place of
/// the one before as far as it can change; a bad one is told of, and changes nothing. No connection
/// is closed.
pub(crate) async fn follow(
    source: Source,
    fixed: FixedOptions,
    mut demo: Demo,
    service: Arc<Service>,
    shutdown: Shutdown,
) {
    let Source { args, mut hangups } = source;
    loop {
        tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            () = hangups.next() => {}
        }
        service::reloading();
        let (again, as_begun) = (args.clone(), demo.clone());
        // Files may lie on a disk that hangs.
        let read = tokio::task::spawn_blocking(|| Config::resolve_again(again, as_begun)).await;
        match read {
            Ok(Ok(config)) => {
                // The configuration had keys for everything that the demo shows, and has none now.
                if demo.key.is_none()
                    && let Some(key) = &config.demo_key
                {
                    announce_text("demo-key", &key.reveal());
                    demo.key = Some(key.clone());
                }
                adopt(config, &fixed, &service);
            }
            Ok(Err(faults)) => tell(&faults),
            Err(_panicked) => tell(&[Error::Defect("reading the configuration failed")]),
        }
        service::ready();
    }
}

fn adopt(config: Config, fixed: &FixedOptions, service: &Service) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let Config { policy, history, .. } = &config;
    let now = config.fixed();
    if fixed.disagrees(&now) {
        tracing::error!(
            "what is kept, or which pairs are protected, is another than the other servers of the \
             stream have: `server adopt-settings` changes it for all of them"
        );
        return tracing::error!("the configuration stays as it was");
    }
    let waiting = fixed.changed(&now);
    let (pairs, tags) =
        (policy.auth.protected().len(), policy.declared_tags.as_ref().map(|tags| tags.len()));
    service.hub.adopt(history.clone());
    service.policy.store(Arc::new(config.policy));
    tracing::info!(protected = pairs, tags, "the configuration as it is now holds");
    if !waiting.is_empty() {
        tracing::warn!("changed, but only a restart makes it hold: {}", waiting.join(", "));
    }
}

fn tell(faults: &[Error]) {
    for fault in faults {
        tracing::error!("{fault}");
    }
    tracing::error!("the configuration stays as it was");
}
