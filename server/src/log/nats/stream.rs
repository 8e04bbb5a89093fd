//! Finds, creates, checks and changes the stream that all servers share.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use sha2::{Digest as _, Sha256};

use super::settings::{CommonSettings, FORMAT, metadata};
use super::{NatsConfig, connect, connected, unreachable};
use crate::error::Error;
use crate::hex::random_hex;
use crate::limits;
use crate::size;

/// How often, and with which pause, NATS is asked for the stream. While a stream is being created
/// or has no leader, NATS does not show it or gives no answer.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// The most bytes that an entry has besides its message: numbers, an address and a `mid`.
const ENTRY_OVERHEAD: usize = 1024;

/// The state of the stream at the start of this server.
#[derive(Debug)]
pub(crate) struct StreamStart {
    /// The epoch: a random name of this log. A log that begins anew gets another epoch.
    pub(crate) epoch: String,
    /// The number of the last entry that was deleted; the log begins right after it.
    pub(crate) floor: u64,
    /// The number of the last entry of the stream.
    pub(super) head: u64,
}

/// A summary of a stream that suits this server's configuration.
#[derive(Debug)]
pub(crate) struct StreamSummary {
    /// The number of entries in the stream.
    pub entries: u64,
    /// The size of the entries, in bytes.
    pub bytes: u64,
    /// The number of the last entry.
    pub last: u64,
    /// Warnings about settings of the stream that differ from the configuration and stay as they
    /// are.
    pub warnings: Vec<String>,
}

impl StreamStart {
    /// The epoch as a number: its 16 hex digits. If somebody has set another text as the epoch, the
    /// number is a hash of the text.
    pub(super) fn epoch_number(&self) -> u64 {
        u64::from_str_radix(&self.epoch, 16).unwrap_or_else(|_| {
            let digest = Sha256::digest(&self.epoch);
            digest[..8].iter().fold(0, |number, &byte| (number << 8) | u64::from(byte))
        })
    }
}

/// Checks that NATS takes the largest message that a client may send. Without this check, the
/// sender of a message that is too large would be asked to retry for ever.
///
/// # Errors
/// [`Error::Cluster`] if NATS does not take such a message.
pub(super) fn check_max_payload(client: &Client, cluster: &NatsConfig) -> Result<(), Error> {
    let (takes, needed) = (client.max_payload(), limits::MESSAGE + ENTRY_OVERHEAD);
    if takes >= needed {
        return Ok(());
    }
    Err(cluster.error(format!(
        "NATS accepts at most {takes} bytes at once, but an entry with the largest message has up \
         to {needed}; raise max_payload in the configuration of its nodes"
    )))
}

/// Creates the stream, or checks the existing one.
///
/// # Errors
/// [`Error::Cluster`] if the settings differ; [`Error::Unavailable`] if NATS gives no answer.
pub(super) async fn open(
    context: &Context,
    cluster: &NatsConfig,
    common: &CommonSettings,
) -> Result<StreamStart, Error> {
    let info = match find(context, cluster, ATTEMPTS).await? {
        Some(info) => info,
        None => make(context, cluster, common).await?,
    };
    for warning in check(&info.config, cluster, common)? {
        tracing::warn!("{warning}");
    }
    let epoch = info.config.metadata.get(metadata::EPOCH).cloned().unwrap_or_default();
    let head = info.state.last_sequence;
    // The first sequence number of an empty stream is that of its next entry.
    let floor = (info.state.first_sequence.max(1) - 1).min(head);
    Ok(StreamStart { epoch, floor, head })
}

/// Checks, without changing anything, whether a server with these settings would start. Returns a
/// summary of the stream; `None` if the stream does not exist yet. If `common` is `None`, the
/// server has no id key yet, so it cannot use an existing stream.
///
/// # Errors
/// [`Error::Unavailable`] if NATS does not answer within five seconds; [`Error::Cluster`] if the
/// settings differ.
pub(crate) async fn inspect(
    cluster: &NatsConfig,
    common: Option<&CommonSettings>,
) -> Result<Option<StreamSummary>, Error> {
    let finding = async {
        let (client, _, context) = connected(cluster, connect::COMMAND).await?;
        check_max_payload(&client, cluster)?;
        find(&context, cluster, 1).await
    };
    let late = |_| unreachable(cluster, &"connected, but JetStream does not answer");
    let found = tokio::time::timeout(connect::COMMAND, finding).await.map_err(late)?;
    let Some(info) = found? else { return Ok(None) };
    let no_key = "the stream exists, but the file of --id-key-file does not: copy it from another \
                  server of the stream. With a new key, stored messages would not reach their \
                  recipients";
    let common = common.ok_or_else(|| cluster.error(no_key.into()))?;
    let warnings = check(&info.config, cluster, common)?;
    let (entries, last) = (info.state.messages, info.state.last_sequence);
    Ok(Some(StreamSummary { entries, last, bytes: info.state.bytes, warnings }))
}

/// Gives the stream the settings of this server, and a new epoch if `new_epoch` is set. Returns the
/// epoch of the stream. Running servers end when they notice another epoch. The operator must
/// restart them one after the other.
///
/// # Errors
/// [`Error::Unavailable`] if NATS gives no answer; [`Error::Cluster`] if the stream does not exist,
/// has another id key, or refuses the change.
pub(crate) async fn adopt(
    cluster: &NatsConfig,
    common: &CommonSettings,
    new_epoch: bool,
) -> Result<String, Error> {
    let (_client, _, context) = connected(cluster, connect::COMMAND).await?;
    let missing = || cluster.error("does not exist; the first server makes it".into());
    let mut config = find(&context, cluster, 1).await?.ok_or_else(missing)?.config;
    check_id_key(&config, cluster, common)?;
    let wanted = in_signed(cluster.size);
    if config.max_bytes > wanted || config.max_bytes < 1 {
        let has = match u64::try_from(config.max_bytes) {
            Ok(bytes) if bytes > 0 => format!("up to {}", size::show(bytes)),
            _ => "without a limit".into(),
        };
        return Err(cluster.error(format!(
            "it keeps entries {has}, and --nats-size {} would delete the oldest of them; give its present \
             size, or make it smaller first with `nats stream edit`",
            size::show(cluster.size)
        )));
    }
    config.metadata.extend(common.to_metadata());
    if new_epoch {
        config.metadata.insert(metadata::EPOCH.into(), make_epoch()?);
    }
    let epoch = config.metadata.get(metadata::EPOCH).cloned().unwrap_or_default();
    config.max_age = config.max_age.max(common.retention);
    config.max_bytes = wanted;
    config.num_replicas = cluster.replicas;
    let updated = context.update_stream(config).await;
    updated.map(|_| epoch).map_err(|error| cluster.error(error.to_string()))
}

/// Gives the stream a new epoch, if its epoch is still `epoch`.
///
/// # Errors
/// The error that NATS answers.
pub(super) async fn renew(context: &Context, name: &str, epoch: &str) -> Result<(), String> {
    let stream = context.get_stream(name).await.map_err(|error| error.to_string())?;
    let mut config = stream.cached_info().config.clone();
    if has_epoch(&config, epoch) {
        let epoch = make_epoch().map_err(|error| error.to_string())?;
        config.metadata.insert(metadata::EPOCH.into(), epoch);
        context.update_stream(config).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether the stream has this epoch.
pub(super) fn has_epoch(config: &Config, epoch: &str) -> bool {
    config.metadata.get(metadata::EPOCH).is_some_and(|has| has == epoch)
}

fn make_epoch() -> Result<String, Error> {
    random_hex::<8>().map_err(Error::no_randomness)
}

/// Fetches the stream, if it exists. Asks up to `attempts` times while NATS cannot tell.
async fn find(
    context: &Context,
    cluster: &NatsConfig,
    attempts: usize,
) -> Result<Option<Info>, Error> {
    let mut attempt = 1;
    loop {
        match context.get_stream(&cluster.stream).await {
            Ok(stream) => return Ok(Some(stream.cached_info().clone())),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) if attempt >= attempts || !may_pass(&error) => {
                return Err(unreachable(cluster, &error));
            }
            Err(error) => tracing::debug!(%error, "NATS does not show the stream; asking again"),
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn may_pass(error: &GetStreamError) -> bool {
    match error.kind() {
        GetStreamErrorKind::Request => true,
        GetStreamErrorKind::JetStream(error) => {
            error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE
        }
        _ => false,
    }
}

/// Creates the stream. If another server was faster, returns the stream of that server, which the
/// caller must check.
async fn make(
    context: &Context,
    cluster: &NatsConfig,
    common: &CommonSettings,
) -> Result<Info, Error> {
    let mut metadata = common.to_metadata();
    metadata.insert(metadata::EPOCH.into(), make_epoch()?);
    let config = Config {
        name: cluster.stream.clone(),
        description: Some("The log of Tocsin's servers. Change it through them only.".into()),
        metadata,
        max_age: common.retention,
        max_bytes: in_signed(cluster.size),
        num_replicas: cluster.replicas,
        ..required(&cluster.stream)
    };
    let error = match context.create_stream(config).await {
        Ok(stream) => {
            let replicas = cluster.replicas;
            tracing::info!(stream = cluster.stream, replicas, "the stream was made");
            return Ok(stream.cached_info().clone());
        }
        Err(error) => error,
    };
    // If another server was faster, its stream may not be visible in NATS yet.
    let attempts = if lacks_nodes(&error) { 1 } else { ATTEMPTS };
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(info) = find(context, cluster, ATTEMPTS).await? {
            return Ok(info);
        }
    }
    Err(cannot_be_made(cluster, &error))
}

fn cannot_be_made(cluster: &NatsConfig, error: &CreateStreamError) -> Error {
    if cluster.replicas > 1 && lacks_nodes(error) {
        return cluster.error(format!(
            "cannot be made with {} replicas: {error}; NATS needs as many nodes with JetStream \
             for that (--nats-replicas 1 needs only one node, but if that node is lost, \
             acknowledged messages are lost too)",
            cluster.replicas
        ));
    }
    match code(error) {
        Some(code) if code != ErrorCode::CLUSTER_NOT_AVAILABLE => {
            cluster.error(format!("cannot be made: {error}"))
        }
        _ => unreachable(cluster, &format!("the stream cannot be made: {error}")),
    }
}

/// Whether NATS has fewer nodes than replicas, or too little room on them.
fn lacks_nodes(error: &CreateStreamError) -> bool {
    code(error).is_some_and(|code| {
        [
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED,
            ErrorCode::CLUSTER_NO_PEERS,
            ErrorCode::INSUFFICIENT_RESOURCES,
        ]
        .contains(&code)
    })
}

/// The error code of JetStream, if the error came from JetStream.
fn code(error: &CreateStreamError) -> Option<ErrorCode> {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}

/// The required settings, by which the sequence numbers of the stream are the seqs of the entries:
/// only age and bytes are limited, and no entry can be deleted from the middle.
fn required(stream: &str) -> Config {
    Config {
        subjects: vec![format!("{stream}.entry.*")],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_messages: -1,
        max_messages_per_subject: -1,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// Checks that the stream suits this server. Returns the warnings to log.
///
/// # Errors
/// [`Error::Cluster`] with the difference and a remedy.
fn check(
    has: &Config,
    cluster: &NatsConfig,
    common: &CommonSettings,
) -> Result<Vec<String>, Error> {
    let error = |reason| Err(cluster.error(reason));
    match has.metadata.get(metadata::FORMAT) {
        None => {
            return error(
                "was not made by a Tocsin server; choose another with --nats-stream".into(),
            );
        }
        Some(format) if format != FORMAT => {
            return error(format!(
                "has format {format}, this server knows {FORMAT}; update this server"
            ));
        }
        Some(_) => {}
    }
    check_id_key(has, cluster, common)?;
    if let Some(difference) = common.difference(&has.metadata) {
        return error(format!(
            "its servers and this one are configured differently: {difference}. Give this server their \
             configuration, or run `server adopt-settings` to give them this one's (docs/scaling.md)"
        ));
    }
    if !has_required(has, &cluster.stream) {
        return error(
            "its settings were changed so that entries could be missing: it must be a file stream \
             with no limit but age and bytes, and with deny_delete and deny_purge"
                .into(),
        );
    }
    if !has.max_age.is_zero() && has.max_age < common.retention {
        return error(format!(
            "it keeps entries for {}, but this configuration needs them for {} (the longest age of a \
             ring or inbox and ten minutes); docs/scaling.md says how to change it",
            humantime::format_duration(has.max_age),
            humantime::format_duration(common.retention),
        ));
    }
    Ok(warnings(has, cluster))
}

fn has_required(has: &Config, stream: &str) -> bool {
    let required = required(stream);
    has.subjects == required.subjects
        && has.retention == required.retention
        && has.discard == required.discard
        && has.max_messages < 1
        && has.max_messages_per_subject < 1
        && has.deny_delete
        && has.deny_purge
        && has.storage == required.storage
        && !has.no_ack
        && !has.sealed
        && !has.allow_rollup
        && has.max_message_size < 1
        && has.subject_transform.is_none()
        && has.sources.as_ref().is_none_or(Vec::is_empty)
        && has.mirror.is_none()
}

fn check_id_key(has: &Config, cluster: &NatsConfig, common: &CommonSettings) -> Result<(), Error> {
    let theirs = has.metadata.get(metadata::ID_KEY);
    if theirs == Some(&common.id_key) {
        return Ok(());
    }
    Err(cluster.error(format!(
        "its servers have an id key with the fingerprint {}, this one's is {}; give all of them the \
         same --id-key-file",
        theirs.map_or("(none)", String::as_str),
        common.id_key
    )))
}

/// Warnings about settings of the stream that differ from this server's configuration and stay as
/// they are.
fn warnings(has: &Config, cluster: &NatsConfig) -> Vec<String> {
    const REMEDY: &str = "the option counts only when the stream is made; run `server adopt-settings`, \
                          with the options of a server, to change the stream";
    let stream = &cluster.stream;
    let size = u64::try_from(has.max_bytes).ok().filter(|size| *size > 0);
    let size = size.filter(|size| *size != cluster.size).map(|has| {
        let [has, wanted] = [has, cluster.size].map(size::exact);
        format!(
            "stream {stream} holds at most {has} of entries, and not the {wanted} of --nats-size: \
             {REMEDY}"
        )
    });
    let replicas = (has.num_replicas != cluster.replicas).then(|| {
        let (nodes, risk) = match has.num_replicas {
            1 => ("1 node".into(), " (if that node is lost, acknowledged messages are lost too)"),
            count => (format!("{count} nodes"), ""),
        };
        format!(
            "stream {stream} stores each entry on {nodes} of NATS{risk}, and not on the {} of \
             --nats-replicas: {REMEDY}",
            cluster.replicas,
        )
    });
    size.into_iter().chain(replicas).collect()
}

fn in_signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
