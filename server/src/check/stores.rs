//! What `server check` finds where the log is kept.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::config::Config;
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::id::IdKey;
use crate::log::nats::NatsConfig;
use crate::log::{nats, sqlite};
use crate::open_log::common_settings;
use crate::size;

/// What there is in the data directory or in NATS, a line each. An id key that is elsewhere is looked
/// at too.
pub(super) async fn look(config: &Config, warnings: &mut Vec<String>) -> Result<String, Error> {
    let id_key_file = config.id_key_file.as_deref();
    if let Some(cluster) = config.cluster() {
        return stream(config, cluster, warnings).await;
    }
    let Some(data) = &config.data else {
        id_key_file.map(IdKey::load).transpose()?;
        warnings.extend(id_key_file.and_then(|file| exposed("id key", file)));
        return Ok("data       none; what is kept ends with the server\n".into());
    };
    let limit = size::show(config.data_size);
    let mut text = format!("data       {}, at most {limit} of entries\n", data.display());
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    let own = || data.join(sqlite::ID_KEY);
    let id_key_file = id_key_file.map_or_else(own, PathBuf::from);
    let log = sqlite::check(&data, Some(&id_key_file))?;
    warnings.extend(exposed("id key", &id_key_file));
    if !data.is_dir() {
        warnings.push(format!("{} does not exist; the first start makes it", data.display()));
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

/// What NATS has, which nothing is made in or changed.
async fn stream(
    config: &Config,
    cluster: &NatsConfig,
    warnings: &mut Vec<String>,
) -> Result<String, Error> {
    let file = config.id_key_file.as_deref();
    let id_key = file.map(IdKey::load).transpose()?.flatten();
    warnings.extend(file.and_then(|file| exposed("id key", file)));
    let secret = cluster.credentials.as_deref();
    warnings.extend(secret.and_then(|file| exposed("NATS credentials", file)));
    let common = id_key.as_ref().map(|id_key| common_settings(config, id_key));
    let there = nats::inspect(cluster, common.as_ref()).await?;
    let mut text = format!("nats       {cluster}, stream {}\n", cluster.stream);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    let Some(there) = there else {
        line(
            "stream",
            format!(
                "none yet; the first start makes it: {} replicas, at most {} of entries",
                cluster.replicas,
                size::show(cluster.size)
            ),
        );
        if let (None, Some(file)) = (id_key, file) {
            let file = file.display();
            warnings.push(format!(
                "{file} does not exist; the first start makes it, and all servers need a copy of it"
            ));
        }
        return Ok(text);
    };
    line("stream", "its servers are configured as this one".into());
    let bytes = size::show(there.bytes);
    line("entries", format!("{}, {bytes}; the last is seq {}", there.entries, there.last));
    warnings.extend(there.warnings);
    Ok(text)
}
