//! The part of `server check` that looks at the stored log.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::Summary;
use crate::config::Config;
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::id::IdKey;
use crate::log::nats::NatsConfig;
use crate::log::{nats, sqlite};
use crate::open_log::common_settings;
use crate::size;

/// Describes the data directory or the NATS stream, and checks the file of the id key.
pub(super) async fn describe(config: &Config, summary: &mut Summary) -> Result<(), Error> {
    if let Some(cluster) = config.cluster() {
        return describe_stream(config, cluster, summary).await;
    }
    let id_key_file = config.id_key_file.as_deref();
    let Some(dir) = &config.data else {
        id_key_file.map(IdKey::load).transpose()?;
        summary.warnings.extend(id_key_file.and_then(|file| exposed("id key", file)));
        summary.line("data", "none; what is kept ends with the server");
        return Ok(());
    };
    describe_directory(dir, config.data_size, id_key_file, summary)
}

fn describe_directory(
    dir: &Path,
    limit: u64,
    id_key_file: Option<&Path>,
    summary: &mut Summary,
) -> Result<(), Error> {
    let limit = size::show(limit);
    summary.line("data", format!("{}, at most {limit} of entries", dir.display()));
    let id_key_file = id_key_file.map_or_else(|| dir.join(sqlite::ID_KEY), PathBuf::from);
    let log = sqlite::check(dir, Some(&id_key_file))?;
    summary.warnings.extend(exposed("id key", &id_key_file));
    if !dir.is_dir() {
        summary
            .warnings
            .push(format!("{} does not exist; the first start creates it", dir.display()));
    }
    let Some(log) = log else {
        summary.line("  log", "none yet; the first start creates it");
        return Ok(());
    };
    summary.warnings.extend(log.exposed);
    summary.line("  log", format!("{}, undamaged", log.file.display()));
    if let Some(process) = log.in_use {
        let process =
            if process.is_empty() { "a server".into() } else { format!("process {process}") };
        summary.line("  in use", format!("by {process}, which may have other options than these"));
    }
    let (has, known) = log.schema;
    let upgrade = match has == known {
        true => String::new(),
        false => format!("; the next start upgrades it to {known}"),
    };
    summary.line("  schema", format!("version {has}{upgrade}"));
    summary.line("  epoch", log.epoch.unwrap_or_else(|| "none yet".into()));
    let id_key = log.id_key.map(|id_key| format!("fingerprint {id_key}"));
    summary.line("  id key", id_key.unwrap_or_else(|| "none yet".into()));
    summary.line("  entries", log.entries);
    for (name, entry) in [("  first", log.first), ("  last", log.last)] {
        if let Some((seq, at)) = entry {
            let at = UNIX_EPOCH.checked_add(Duration::from_millis(at)).unwrap_or(UNIX_EPOCH);
            summary.line(name, format!("seq {seq}, {}", humantime::format_rfc3339_millis(at)));
        }
    }
    let (size, free) = (size::show(log.size), size::show(log.free));
    summary.line("  file", format!("{size}, {free} of it free"));
    summary.line("  WAL", size::show(log.wal));
    Ok(())
}

async fn describe_stream(
    config: &Config,
    cluster: &NatsConfig,
    summary: &mut Summary,
) -> Result<(), Error> {
    let file = config.id_key_file.as_deref();
    let id_key = file.map(IdKey::load).transpose()?.flatten();
    summary.warnings.extend(file.and_then(|file| exposed("id key", file)));
    let secret = cluster.credentials.as_deref();
    summary.warnings.extend(secret.and_then(|file| exposed("NATS credentials", file)));
    let common = id_key.as_ref().map(|id_key| common_settings(config, id_key));
    let stream = nats::inspect(cluster, common.as_ref()).await?;
    summary.line("nats", format!("{cluster}, stream {}", cluster.stream));
    let Some(stream) = stream else {
        let (replicas, limit) = (cluster.replicas, size::show(cluster.size));
        summary.line(
            "  stream",
            format!(
                "none yet; the first start creates it: {replicas} replicas, at most {limit} of entries"
            ),
        );
        if let (None, Some(file)) = (id_key, file) {
            summary.warnings.push(format!(
                "{} does not exist; the first start creates it, and all servers need a copy of it",
                file.display()
            ));
        }
        return Ok(());
    };
    summary.line("  stream", "its servers have the same configuration as this one");
    let bytes = size::show(stream.bytes);
    let (entries, last) = (stream.entries, stream.last);
    summary.line("  entries", format!("{entries}, {bytes}; the last is seq {last}"));
    summary.warnings.extend(stream.warnings);
    Ok(())
}
