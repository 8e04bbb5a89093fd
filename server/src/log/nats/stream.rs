//! The stream that all servers share: made with stated settings, or checked against them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use sha2::{Digest as _, Sha256};

use super::difference::{self, OTHERS, TOGETHER};
use super::{Cluster, make, unreachable};
use crate::error::Error;
use crate::hub::dedup;
use crate::hub::history::{Settings, TagBounds};
use crate::id::{IdKey, Tag, random_hex};
use crate::limits;
use crate::protocol::Protectable;
use crate::size;

/// Of what stands in the stream's metadata. Servers of another one do not agree.
const FORMAT: &str = "1";

/// Names in the metadata.
pub(super) mod name {
    pub(in crate::log::nats) const FORMAT: &str = "tocsin-format";
    pub(in crate::log::nats) const EPOCH: &str = "tocsin-epoch";
    pub(in crate::log::nats) const ID_KEY: &str = "tocsin-id-key";
    pub(in crate::log::nats) const KEPT: &str = "tocsin-kept";
    pub(in crate::log::nats) const PROTECTED: &str = "tocsin-protected";
}

/// What all servers of one stream must have in common, since what they keep follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Common {
    /// The fingerprint of the id key.
    pub(super) id_key: String,
    /// What is kept of each tag, a line each, in order.
    pub(super) kept: BTreeSet<String>,
    /// The protected pairs, a line each.
    pub(super) protected: BTreeSet<String>,
    /// The longest that anything is of use.
    pub(super) retention: Duration,
}

/// The stream as it was found or made.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) epoch: String,
    /// The last entry that is gone.
    pub(super) floor: u64,
    /// The last entry that there is.
    pub(super) head: u64,
}

impl Found {
    /// The epoch as a number: its 16 hex digits, or what stands for another text that somebody has
    /// put in their place.
    pub(super) fn epoch_number(&self) -> u64 {
        u64::from_str_radix(&self.epoch, 16).unwrap_or_else(|_| {
            let digest = Sha256::digest(&self.epoch);
            digest[..8].iter().fold(0, |number, &byte| (number << 8) | u64::from(byte))
        })
    }
}

/// What an entry is besides its message, at most: numbers, an address and a `mid`.
const BESIDES: usize = 1024;

/// Whether NATS takes every message that a client may send. Told at the start, or the first who sends
/// one that is too large is told that he may try again in a moment.
///
/// # Errors
/// [`Error::Cluster`].
pub(super) fn admits_messages(client: &Client, cluster: &Cluster) -> Result<(), Error> {
    let (takes, needed) = (client.max_payload(), limits::MESSAGE + BESIDES);
    if takes >= needed {
        return Ok(());
    }
    let reason = format!(
        "NATS takes {takes} bytes at once, but an entry with the largest message has up to {needed}; \
         raise max_payload in the configuration of its nodes"
    );
    Err(Error::Cluster { stream: cluster.stream.clone(), reason })
}

/// Makes the stream, or checks the one that there is.
///
/// # Errors
/// [`Error::Cluster`] names what is different; [`Error::Unavailable`].
pub(super) async fn open(
    context: &Context,
    cluster: &Cluster,
    common: &Common,
) -> Result<Found, Error> {
    let refuse = |reason| Error::Cluster { stream: cluster.stream.clone(), reason };
    let info = match make::find(context, cluster).await? {
        Some(info) => info,
        None => make::make(context, cluster, common).await?,
    };
    for warning in check(&info.config, cluster, common).map_err(refuse)? {
        tracing::warn!("{warning}");
    }
    let epoch = info.config.metadata.get(name::EPOCH).cloned().unwrap_or_default();
    let state = &info.state;
    // An empty stream's first seq is the one that comes next.
    let floor = state.first_sequence.max(1) - 1;
    Ok(Found { epoch, floor: floor.min(state.last_sequence), head: state.last_sequence })
}

/// Gives the stream what this server's configuration says. Answers its epoch, which is a new one if
/// that is wanted.
///
/// # Errors
/// [`Error::Cluster`] without such a stream, or with one of another id key.
pub(super) async fn adopt(
    context: &Context,
    cluster: &Cluster,
    common: &Common,
    new_epoch: bool,
) -> Result<String, Error> {
    let refuse = |reason: String| Error::Cluster { stream: cluster.stream.clone(), reason };
    let mut config = match context.get_stream(&cluster.stream).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) if is_missing(&error) => {
            return Err(refuse("there is no such stream; the first server makes it".into()));
        }
        Err(error) => return Err(unreachable(cluster, &error)),
    };
    let fingerprint = config.metadata.get(name::ID_KEY);
    if fingerprint != Some(&common.id_key) {
        return Err(refuse(id_key_differs(fingerprint, common)));
    }
    let wanted = in_signed(cluster.size);
    if config.max_bytes > wanted || config.max_bytes < 1 {
        let has = match u64::try_from(config.max_bytes) {
            Ok(bytes) if bytes > 0 => format!("up to {}", size::show(bytes)),
            _ => "without a limit".into(),
        };
        return Err(refuse(format!(
            "it keeps entries {has}, and --nats-size {} would delete the oldest of them; give the size \
             that it has, or make it smaller first with `nats stream edit`",
            size::show(cluster.size)
        )));
    }
    config.metadata.extend(common.metadata());
    if new_epoch {
        let epoch = random_hex::<8>().map_err(Error::no_randomness)?;
        config.metadata.insert(name::EPOCH.into(), epoch);
    }
    let epoch = config.metadata.get(name::EPOCH).cloned().unwrap_or_default();
    config.max_age = config.max_age.max(common.retention);
    config.max_bytes = wanted;
    config.num_replicas = cluster.replicas;
    let updated = context.update_stream(config).await;
    updated.map(|_| epoch).map_err(|error| refuse(error.to_string()))
}

/// Gives the stream another epoch, if it has still this one.
///
/// # Errors
/// What NATS says.
pub(super) async fn renew(context: &Context, name: &str, epoch: &str) -> Result<(), String> {
    let stream = context.get_stream(name).await.map_err(|error| error.to_string())?;
    let mut config = stream.cached_info().config.clone();
    if is_of(&config, epoch) {
        let epoch = random_hex::<8>().map_err(|error| error.to_string())?;
        config.metadata.insert(name::EPOCH.into(), epoch);
        context.update_stream(config).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether this is the stream of that epoch.
pub(super) fn is_of(config: &Config, epoch: &str) -> bool {
    config.metadata.get(name::EPOCH).is_some_and(|has| has == epoch)
}

/// What makes its numbers the entries': no limit but age and bytes, nothing taken out of its midst.
pub(super) fn settings(stream: &str) -> Config {
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

/// What is to be warned of.
///
/// # Errors
/// What is different, and what to do.
pub(super) fn check(
    has: &Config,
    cluster: &Cluster,
    common: &Common,
) -> Result<Vec<String>, String> {
    let said = |name| has.metadata.get(name);
    match said(name::FORMAT) {
        None => return Err("is no log of these servers; choose another with --nats-stream".into()),
        Some(format) if format != FORMAT => {
            return Err(format!("has format {format}, this server knows {FORMAT}; update it"));
        }
        Some(_) => {}
    }
    if said(name::ID_KEY) != Some(&common.id_key) {
        return Err(id_key_differs(said(name::ID_KEY), common));
    }
    let lines = |name| -> BTreeSet<String> {
        said(name).into_iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
    };
    let theirs = [&lines(name::KEPT), &lines(name::PROTECTED)];
    if let Some(difference) = difference::between([&common.kept, &common.protected], theirs) {
        return Err(format!(
            "its servers and this one are configured differently: {difference}. Give this one their \
             configuration, or them this one's by `server adopt-settings` (docs/scaling.md)"
        ));
    }
    let wanted = settings(&cluster.stream);
    let as_wanted = has.subjects == wanted.subjects
        && has.retention == wanted.retention
        && has.discard == wanted.discard
        && has.max_messages < 1
        && has.max_messages_per_subject < 1
        && has.deny_delete
        && has.deny_purge
        && has.storage == wanted.storage
        && !has.no_ack
        && !has.sealed
        && !has.allow_rollup
        && has.max_message_size < 1
        && has.subject_transform.is_none()
        && has.sources.as_ref().is_none_or(Vec::is_empty)
        && has.mirror.is_none();
    if !as_wanted {
        return Err(
            "its settings were changed so that entries could be missing: a file stream with \
             no limit but age and bytes, deny_delete and deny_purge is needed"
                .into(),
        );
    }
    if !has.max_age.is_zero() && has.max_age < common.retention {
        return Err(format!(
            "it keeps entries for {}, but this configuration needs them for {} (the longest age of a \
             ring or inbox and ten minutes); docs/scaling.md says how to change it",
            humantime::format_duration(has.max_age),
            humantime::format_duration(common.retention),
        ));
    }
    Ok(warnings(has, cluster))
}

/// What holds for the stream although this configuration says something else.
fn warnings(has: &Config, cluster: &Cluster) -> Vec<String> {
    const REMEDY: &str = "that counts only when the stream is made; `server adopt-settings`, with \
                          the options of a server, changes it";
    let stream = &cluster.stream;
    let size = u64::try_from(has.max_bytes).ok().filter(|size| *size > 0);
    let size = size.filter(|size| *size != cluster.size).map(|has| {
        let [has, wanted] = [has, cluster.size].map(size::exact);
        format!(
            "stream {stream} holds at most {has} of entries, beyond which the oldest go, and not \
             the {wanted} of --nats-size: {REMEDY}"
        )
    });
    let replicas = (has.num_replicas != cluster.replicas).then(|| {
        let risk = match has.num_replicas {
            1 => ": if that node is lost, so is what was acknowledged",
            _ => "",
        };
        format!(
            "stream {stream} has each entry on {} of NATS{risk}, and not on the {} of \
             --nats-replicas: {REMEDY}",
            nodes(has.num_replicas),
            cluster.replicas,
        )
    });
    size.into_iter().chain(replicas).collect()
}

fn nodes(count: usize) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}

impl Common {
    pub(super) fn of(
        settings: &Settings,
        protected: &[(Tag, Protectable)],
        id_key: &IdKey,
    ) -> Self {
        let line = |name: &str, bounds: TagBounds| {
            let [ring, inbox] = [bounds.ring, bounds.inbox]
                .map(|kept| format!("{} {} ms {} B", kept.count, kept.age.as_millis(), kept.bytes));
            format!("{name}: ring {ring}, inbox {inbox}")
        };
        let mut kept: BTreeSet<String> =
            settings.by_tag().map(|(tag, bounds)| line(tag.as_str(), bounds)).collect();
        kept.insert(line(OTHERS, settings.usual()));
        kept.insert(format!("{TOGETHER}: {} B", settings.max_memory));
        let pair = |(tag, action): &(Tag, Protectable)| format!("{tag}:{}", action.name());
        Self {
            id_key: id_key.fingerprint(),
            kept,
            protected: protected.iter().map(pair).collect(),
            retention: settings.longest_age().saturating_add(dedup::WINDOW),
        }
    }

    pub(super) fn metadata(&self) -> HashMap<String, String> {
        let lines = |lines: &BTreeSet<String>| {
            lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
        };
        HashMap::from([
            (name::FORMAT.into(), FORMAT.into()),
            (name::ID_KEY.into(), self.id_key.clone()),
            (name::KEPT.into(), lines(&self.kept)),
            (name::PROTECTED.into(), lines(&self.protected)),
        ])
    }
}

fn id_key_differs(theirs: Option<&String>, common: &Common) -> String {
    format!(
        "its servers have an id key with the fingerprint {}, this one's is {}; give all of them the \
         same --id-key-file",
        theirs.map_or("(none)", String::as_str),
        common.id_key
    )
}

pub(super) fn is_missing(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

pub(super) fn in_signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
