//! `server check`: are configuration and data good, and what do they come to? And the one thing that
//! is changed in data without a server.

mod stores;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::client::print_line;
use crate::config::Config;
use crate::config::cli::RunArgs;
use crate::duration_text;
use crate::error::Error;
use crate::hub::history::TagBounds;
use crate::id::{IdKey, Tag};
use crate::log::{nats, sqlite};
use crate::net::addresses::{Listen, ListenAddress};
use crate::open_log::common_settings;
use crate::protocol::Protectable;
use crate::size;

/// Prints what a configuration comes to; no secret is among it.
///
/// # Errors
/// Everything that is wrong with it.
pub async fn check(args: RunArgs) -> Result<(), Vec<Error>> {
    let config = Config::resolve(args)?;
    let mut faults = config.clashes();
    let mut warnings = config.warnings.clone();
    let data = match stores::look(&config, &mut warnings).await {
        Ok(data) => data,
        Err(fault) => {
            faults.push(fault);
            return Err(faults);
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let list = |items: Vec<String>| match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(" "),
    };
    let addresses = |addresses: &[ListenAddress]| {
        list(addresses.iter().map(|address| address.socket.to_string()).collect())
    };
    let protected = config.policy.auth.protected();
    let kept = kept(&config, &protected);
    let tags = config.policy.declared_tags.as_ref().map(|tags| {
        let mut tags: Vec<String> = tags.iter().map(Tag::to_string).collect();
        tags.sort();
        list(tags)
    });
    let pairs = protected.iter().map(|(tag, action)| format!("{tag}:{}", action.name()));
    warnings.extend(config.without_effect(false));
    warnings.extend(config.policy.open_to_all());
    let warnings: String =
        warnings.iter().map(|warning| format!("warning    {warning}\n")).collect();
    let id_key = match (&config.id_key_file, &config.data) {
        (Some(file), _) => file.display().to_string(),
        (None, Some(_)) => format!("{} in the data directory", sqlite::ID_KEY),
        (None, None) => "made anew at every start".into(),
    };
    let lines = [
        format!(
            "listen     {}",
            list(config.sockets.listen.iter().map(Listen::to_string).collect())
        ),
        format!("  proxied  {}", addresses(&config.sockets.listen_proxy)),
        format!(
            "admin      {}",
            config.sockets.admin.map_or("off".into(), |admin| addresses(&[admin]))
        ),
        format!("tags       {}", tags.unwrap_or_else(|| "any".into())),
        format!("protected  {}", list(pairs.collect())),
        format!("id key     {id_key}"),
        format!("{kept}{data}{warnings}The configuration is good."),
    ];
    Ok(print_line(&lines.join("\n"))?)
}

/// How much is kept, a line for each tag that is named anywhere.
fn kept(config: &Config, protected: &[(Tag, Protectable)]) -> String {
    let memory = size::show(config.history.max_memory as u64);
    let mut text = format!("kept       at most {memory} in memory\n");
    let mut line = |name: &str, kept: TagBounds| {
        let [ring, inbox] =
            [("ring", kept.ring), ("inbox", kept.inbox)].map(|(kind, kept)| match kept.count {
                0 => format!("no {kind}"),
                count => {
                    format!(
                        "{kind} {count}, {}, {}",
                        duration_text::show(kept.age),
                        size::show(kept.bytes as u64)
                    )
                }
            });
        let _ = writeln!(text, "  {name}: {ring}; {inbox}");
    };
    let named =
        protected.iter().map(|(tag, _)| tag).chain(config.policy.declared_tags.iter().flatten());
    for tag in named.collect::<BTreeSet<_>>() {
        line(tag.as_str(), config.history.of(tag));
    }
    if config.policy.declared_tags.is_none() {
        line("any other tag", config.history.usual());
    }
    text
}

/// `server adopt-settings`: tells the stream what is kept and protected from now on, and gives it a
/// `new_epoch` if that is wanted.
///
/// # Errors
/// [`Error::Option`] without a stream; what keeps it from being changed.
pub async fn adopt_settings(config: &Config, new_epoch: bool) -> Result<(), Error> {
    let (Some(cluster), Some(file)) = (config.cluster(), &config.id_key_file) else {
        let reason = "needed here: it names the stream whose settings are to change".into();
        return Err(Error::Option { option: "nats", reason });
    };
    let id_key = IdKey::load(file)?.ok_or_else(|| Error::Content {
        what: "id key file",
        file: file.clone(),
        reason: "missing; put that of the stream's servers here".into(),
    })?;
    let common = common_settings(config, &id_key);
    let epoch = nats::adopt(cluster, &common, new_epoch).await?;
    print_line(&format!(
        "stream {} has these settings and the epoch {epoch}; restart its servers with them, one after \
         the other",
        cluster.stream
    ))
}

/// `server new-epoch`: gives the log in a data directory a new epoch and says so.
///
/// # Errors
/// What keeps the directory from being used; a server that uses it among that.
pub fn new_epoch(data: &Path, id_key_file: Option<&Path>) -> Result<(), Error> {
    let (old, new) = sqlite::new_epoch(data, id_key_file)?;
    let old = old.unwrap_or_else(|| "none".into());
    print_line(&format!("epoch {new} (was {old})"))
}
