//! Reads the configuration again on SIGHUP, and applies new keys, tags and limits to the running
//! server.

use std::sync::Arc;

use shared::service;
use shared::shutdown::{Hangups, Shutdown};
use shared::telemetry::announce_text;

use crate::config::cli::RunArgs;
use crate::config::{Config, Demo, FixedOptions};
use crate::error::Error;
use crate::publish::Service;
use crate::sender_key::SenderKey;

/// The data that is needed to read the configuration again.
#[derive(Debug)]
pub struct Source {
    /// The arguments from the command line and the environment. They name the configuration file.
    pub args: RunArgs,
    /// The SIGHUP signals.
    pub hangups: Hangups,
}

/// Reads the configuration again on each SIGHUP until the server stops. From a valid configuration,
/// all settings apply that a running server can change. An invalid configuration changes nothing;
/// its faults are logged. No connection is closed.
pub(crate) async fn follow(
    source: Source,
    fixed: FixedOptions,
    (mut demo, mut sender_key): (Demo, SenderKey),
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
        let (again, running) = (args.clone(), Some(demo.clone()));
        // The file is read in a thread of its own, because the disk may hang.
        let read = tokio::task::spawn_blocking(|| Config::resolve_for(again, running)).await;
        match read {
            Ok(Ok(config)) => {
                // The new configuration has no key for some action of the demo. The old one had
                // keys for all of them, so the demo now gets a key of its own.
                if demo.key.is_none()
                    && let Some(key) = &config.demo_key
                {
                    announce_text("demo-key", &key.reveal());
                    demo.key = Some(key.clone());
                }
                adopt(config, &fixed, &mut sender_key, &service);
            }
            Ok(Err(faults)) => reject(&faults),
            Err(_panicked) => reject(&[Error::Defect("reading the configuration failed")]),
        }
        service::ready();
    }
}

fn adopt(mut config: Config, fixed: &FixedOptions, sender_key: &mut SenderKey, service: &Service) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let now = config.fixed();
    if fixed.disagrees(&now) {
        tracing::error!(
            "the new configuration differs from that of the stream's other servers in what it \
             retains or protects: run `server adopt-settings` to change it for all of them"
        );
        return reject(&[]);
    }
    let missing = service.policy.load().guards_missing_in(&config.policy);
    if !missing.is_empty() {
        tracing::error!(
            "the new configuration lacks what keeps listeners out: {}; restart the server to apply \
             that, or open the tags with open = [\"set\"]",
            missing.join(", ")
        );
        return reject(&[]);
    }
    let unapplied = fixed.changed(&now);
    if config.makes_key {
        sender_key.permit(&mut config.policy);
    }
    let pairs = config.policy.auth.protected().len();
    let tags = config.policy.declared_tags.as_ref().map(|tags| tags.len());
    service.hub.adopt(config.history);
    service.policy.store(Arc::new(config.policy));
    tracing::info!(protected = pairs, tags, "the new configuration applies");
    if !unapplied.is_empty() {
        tracing::warn!("changed, but only a restart applies it: {}", unapplied.join(", "));
    }
}

fn reject(faults: &[Error]) {
    for fault in faults {
        tracing::error!("{fault}");
    }
    tracing::error!("the configuration stays as it was");
}
