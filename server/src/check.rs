//! `server check`: are configuration and data good, and what do they come to? And the one thing that
//! is changed in data without a server.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::auth::Protectable;
use crate::cli::RunArgs;
use crate::client::print_line;
use crate::config::{Address, Config, Listen};
use crate::error::Error;
use crate::exposure::exposed;
use crate::id::{IdKey, Tag};
use crate::keep::TagBounds;
use crate::log::{nats, sqlite};
use crate::size;

/// Said where no pair has a key.
pub(crate) const OPEN: &str = "no key protects anything: everyone who can connect may send and \
     broadcast on every tag; see --protect";

/// Prints what a configuration comes to; no secret is among it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(args: RunArgs) -> Result<(), Vec<Error>> {
    let config = Config::resolve(args)?;
    let mut warnings = config.warnings.clone();
    let data = data(&config, &mut warnings)?;
    let list = |items: Vec<String>| match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(" "),
    };
    let addresses = |addresses: &[Address]| {
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
    if protected.is_empty() {
        warnings.push(OPEN.into());
    }
    let warnings: String =
        warnings.iter().map(|warning| format!("warning    {warning}\n")).collect();
    let id_key = match (&config.id_key_file, &config.data) {
        (Some(file), _) => file.display().to_string(),
        (None, Some(_)) => format!("{} in the data directory", sqlite::ID_KEY),
        (None, None) => "made anew at every start".into(),
    };
    let lines = [
        format!("listen     {}", list(config.listen.iter().map(Listen::to_string).collect())),
        format!("  proxied  {}", addresses(&config.listen_proxy)),
        format!("admin      {}", config.admin.map_or("off".into(), |admin| addresses(&[admin]))),
        format!("tags       {}", tags.unwrap_or_else(|| "any".into())),
        format!("protected  {}", list(pairs.collect())),
        format!("id key     {id_key}"),
        format!("{kept}{data}{warnings}The configuration is good."),
    ];
    Ok(print_line(&lines.join("\n"))?)
}

/// How much is kept, a line for each tag that is named anywhere.
fn kept(config: &Config, protected: &[(Tag, Protectable)]) -> String {
    let memory = size::show(config.keeping.max_memory as u64);
    let mut text = format!("kept       at most {memory} in memory\n");
    let mut line = |name: &str, kept: TagBounds| {
        let [ring, inbox] =
            [("ring", kept.ring), ("inbox", kept.inbox)].map(|(kind, kept)| match kept.count {
                0 => format!("no {kind}"),
                count => {
                    format!("{kind} {count}, {}, {}", time(kept.age), size::show(kept.bytes as u64))
                }
            });
        let _ = writeln!(text, "  {name}: {ring}; {inbox}");
    };
    let named =
        protected.iter().map(|(tag, _)| tag).chain(config.policy.declared_tags.iter().flatten());
    for tag in named.collect::<BTreeSet<_>>() {
        line(tag.as_str(), config.keeping.of(tag));
    }
    if config.policy.declared_tags.is_none() {
        line("any other tag", config.keeping.usual());
    }
    text
}

/// A time as people write it, all of it: `7 days`, `1 hour 30 minutes`.
fn time(time: Duration) -> String {
    let mut left = time.as_secs();
    let units = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
    let whole = units.into_iter().filter_map(|(unit, seconds)| {
        let count = left / seconds;
        left %= seconds;
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {unit}{plural}"))
    });
    let mut parts: Vec<String> = whole.collect();
    match time.subsec_millis() {
        0 if parts.is_empty() => parts.push("0 seconds".into()),
        0 => {}
        millis => parts.push(format!("{millis} ms")),
    }
    parts.join(" ")
}

/// What there is in the data directory, a line each. An id key that is elsewhere is looked at too.
fn data(config: &Config, warnings: &mut Vec<String>) -> Result<String, Error> {
    let id_key_file = config.id_key_file.as_deref();
    if let Some(cluster) = &config.nats {
        id_key_file.map(IdKey::load).transpose()?;
        warnings.extend(id_key_file.and_then(|file| exposed("id key", file)));
        let secret = cluster.credentials.as_deref();
        warnings.extend(secret.and_then(|file| exposed("NATS credentials", file)));
        return Ok(format!(
            "nats       {cluster}, stream {}: {} replicas, at most {} of entries\n",
            cluster.stream,
            cluster.replicas,
            size::show(cluster.size)
        ));
    }
    let Some(data) = &config.data else {
        id_key_file.map(IdKey::load).transpose()?;
        warnings.extend(id_key_file.and_then(|file| exposed("id key", file)));
        return Ok("data       none; what is kept ends with the server\n".into());
    };
    let limit = size::show(data.size);
    let mut text = format!("data       {}, at most {limit} of entries\n", data.dir.display());
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    let own = || data.dir.join(sqlite::ID_KEY);
    let id_key_file = id_key_file.map_or_else(own, PathBuf::from);
    let log = sqlite::check(&data.dir, Some(&id_key_file))?;
    warnings.extend(exposed("id key", &id_key_file));
    if !data.dir.is_dir() {
        warnings.push(format!("{} does not exist; the first start makes it", data.dir.display()));
    }
    let Some(log) = log else {
        line("log", "none yet; the first start makes it".into());
        return Ok(text);
    };
    warnings.extend(log.exposed);
    line("log", format!("{}, undamaged", log.file.display()));
    if let Some(process) = log.in_use {
        let process =
            if process.is_empty() { "a server".into() } else { format!("process {process}") };
        line("in use", format!("by {process}, whose options may be others than are told here"));
    }
    match log.schema {
        (has, known) if has == known => line("schema", format!("version {has}")),
        (has, known) => {
            line("schema", format!("version {has}; the next start brings it to {known}"));
        }
    }
    line("epoch", log.epoch.unwrap_or_else(|| "none yet".into()));
    line("id key", log.id_key.map_or("none yet".into(), |id_key| format!("fingerprint {id_key}")));
    line("entries", log.entries.to_string());
    for (name, entry) in [("first", log.first), ("last", log.last)] {
        if let Some((seq, at)) = entry {
            let at = UNIX_EPOCH.checked_add(Duration::from_millis(at)).unwrap_or(UNIX_EPOCH);
            line(name, format!("seq {seq}, {}", humantime::format_rfc3339_millis(at)));
        }
    }
    line("file", format!("{}, {} of it free", size::show(log.size), size::show(log.free)));
    line("WAL", size::show(log.wal));
    Ok(text)
}

/// `server adopt-settings`: tells the stream what is kept and protected from now on, and gives it a
/// `new_epoch` if that is wanted.
///
/// # Errors
/// [`Error::Option`] without a stream; what keeps it from being changed.
pub async fn adopt_settings(config: &Config, new_epoch: bool) -> Result<(), Error> {
    let (Some(cluster), Some(file)) = (&config.nats, &config.id_key_file) else {
        let reason = "needed here: it names the stream whose settings are to change".into();
        return Err(Error::Option { option: "--nats", reason });
    };
    let id_key = IdKey::load(file)?.ok_or_else(|| Error::Content {
        what: "id key file",
        file: file.clone(),
        reason: "missing; put that of the stream's servers here".into(),
    })?;
    let protected = config.policy.auth.protected();
    let epoch = nats::adopt(cluster, &config.keeping, &protected, &id_key, new_epoch).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_people_write() {
        for (text, words) in [
            ("7d", "7 days"),
            ("1h", "1 hour"),
            ("90m", "1 hour 30 minutes"),
            // A month is not the 30.44 days that some take it for.
            ("31d", "31 days"),
            ("1d 1s", "1 day 1 second"),
            ("1500ms", "1 second 500 ms"),
            ("0s", "0 seconds"),
        ] {
            assert_eq!(time(humantime::parse_duration(text).unwrap()), words);
        }
    }
}
