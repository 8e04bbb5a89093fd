//! `server check`: checks a configuration and its stored data, and summarizes them. Also the two
//! commands that change stored data without a running server.

mod stores;

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::path::Path;

use crate::access::auth::Guarded;
use crate::client::print_line;
use crate::config::Config;
use crate::config::cli::RunArgs;
use crate::duration_text;
use crate::error::Error;
use crate::hub::history::{HistoryBounds, TagBounds};
use crate::id::{IdKey, Tag};
use crate::log::{nats, sqlite};
use crate::net::addresses::{Listen, ListenAddress};
use crate::open_log::common_settings;
use crate::size;

/// The text that `server check` prints.
#[derive(Default)]
struct Summary {
    lines: String,
    warnings: Vec<String>,
}

impl Summary {
    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.lines, "{name:<11}{value}");
    }
}

/// `server check`: prints a summary of a configuration, without secrets.
///
/// # Errors
/// All faults of the configuration. If its values are valid, also the first fault of the stored
/// data.
pub async fn check(args: RunArgs) -> Result<(), Vec<Error>> {
    let config = Config::resolve(args)?;
    let mut faults = config.clashes();
    let mut summary = Summary { warnings: config.warnings.clone(), ..Summary::default() };
    describe(&config, &mut summary);
    faults.extend(stores::describe(&config, &mut summary).await.err());
    if !faults.is_empty() {
        return Err(faults);
    }
    summary.warnings.extend(config.without_effect(false));
    if !config.makes_key {
        summary.warnings.extend(config.policy.closed_to_all());
    }
    for warning in std::mem::take(&mut summary.warnings) {
        summary.line("warning", warning);
    }
    Ok(print_line(&(summary.lines + "The configuration is good."))?)
}

fn describe(config: &Config, summary: &mut Summary) {
    let address = |address: &ListenAddress| address.socket.to_string();
    let sockets = &config.sockets;
    summary.line("listen", list(sockets.listen.iter().map(Listen::to_string)));
    summary.line("  proxied", list(sockets.listen_proxy.iter().map(address)));
    summary.line("admin", sockets.admin.as_ref().map_or("off".into(), address));
    let protected = config.policy.auth.protected();
    let declared = config.policy.declared_tags.as_ref();
    let sorted = declared.map(|tags| tags.iter().collect::<BTreeSet<_>>());
    summary.line(
        "tags",
        sorted.map_or("any".into(), |tags| list(tags.into_iter().map(Tag::to_string))),
    );
    summary.line("protected", list(protected.iter().map(Guarded::to_string)));
    let opened = config.policy.auth.opened();
    summary.line("open", list(opened.iter().map(Guarded::to_string)));
    match (&config.id_key_file, &config.data) {
        (Some(file), _) => summary.line("id key", file.display()),
        (None, Some(_)) => {
            summary.line("id key", format!("{} in the data directory", sqlite::ID_KEY));
        }
        (None, None) => summary.line("id key", "made anew at every start"),
    }
    describe_history(config, &[protected, opened].concat(), summary);
}

/// Adds a line for the limit of memory, and one for each tag that the configuration names.
fn describe_history(config: &Config, rules: &[Guarded], summary: &mut Summary) {
    let memory = size::show(config.history.max_memory as u64);
    summary.line("kept", format!("at most {memory} in memory"));
    let kind = |name: &str, bounds: HistoryBounds| match bounds.count {
        0 => format!("no {name}"),
        count => {
            let bytes = size::show(bounds.bytes as u64);
            format!("{name} {count}, {}, {bytes}", duration_text::show(bounds.age))
        }
    };
    let mut line = |name: &str, bounds: TagBounds| {
        let (ring, inbox) = (kind("ring", bounds.ring), kind("inbox", bounds.inbox));
        let _ = writeln!(summary.lines, "  {name}: {ring}; {inbox}");
    };
    let named = rules.iter().filter_map(|pair| pair.scope.tag());
    let declared = config.policy.declared_tags.iter().flatten();
    for tag in named.chain(declared).collect::<BTreeSet<_>>() {
        line(tag.as_str(), config.history.of(tag));
    }
    if config.policy.declared_tags.is_none() {
        line("any other tag", config.history.usual);
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "none".into() } else { items.join(" ") }
}

/// `server adopt-settings`: changes which messages the stream retains and which actions it
/// protects. With `new_epoch` it also starts a new epoch.
///
/// # Errors
/// [`Error::Option`] if no stream is configured; otherwise the error that prevents the change.
pub async fn adopt_settings(config: &Config, new_epoch: bool) -> Result<(), Error> {
    let (Some(cluster), Some(file)) = (config.cluster(), &config.id_key_file) else {
        let reason = "missing; this command changes the settings of a stream in NATS, so give it \
                      the --nats of the servers";
        return Err(Error::Option { option: "nats", reason: reason.into() });
    };
    let id_key = IdKey::load(file)?.ok_or_else(|| Error::Content {
        what: "id key file",
        file: file.clone(),
        reason: "it does not exist; copy the file from another server of the stream".into(),
    })?;
    let common = common_settings(config, &id_key);
    let epoch = nats::adopt(cluster, &common, new_epoch).await?;
    print_line(&format!(
        "stream {} now has these settings and the epoch {epoch}; restart all its servers with the \
         same settings, one after the other",
        cluster.stream
    ))
}

/// `server new-epoch`: gives the log in a data directory a new epoch and prints it.
///
/// # Errors
/// The error that prevents the change, for example because a server uses the directory.
pub fn new_epoch(data: &Path, id_key_file: Option<&Path>) -> Result<(), Error> {
    let (old, new) = sqlite::new_epoch(data, id_key_file)?;
    let old = old.unwrap_or_else(|| "none".into());
    print_line(&format!("epoch {new} (was {old})"))
}
