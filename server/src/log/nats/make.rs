//! Finding the stream or making it, which several servers may do at the same time.

use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{Config, Info};
use async_nats::jetstream::{Context, ErrorCode};

use super::stream::{Common, in_signed, is_missing, name, settings};
use super::{Cluster, unreachable};
use crate::error::Error;
use crate::id::random_hex;

/// While a stream is being made, or has no leader yet, NATS does not show it, or says nothing at all:
/// it is asked so often, with a pause each.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// The stream, if there is one.
///
/// # Errors
/// [`Error::Unavailable`].
pub(super) async fn find(context: &Context, cluster: &Cluster) -> Result<Option<Info>, Error> {
    let mut looks = 1;
    loop {
        match context.get_stream(&cluster.stream).await {
            Ok(stream) => return Ok(Some(stream.cached_info().clone())),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) if looks == LOOKS || !may_pass(&error) => {
                return Err(unreachable(cluster, &error));
            }
            Err(error) => tracing::debug!(%error, "NATS does not show the stream; asking again"),
        }
        looks += 1;
        tokio::time::sleep(PAUSE).await;
    }
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

/// Makes the stream, unless another server was faster: that one's is to be checked.
///
/// # Errors
/// [`Error::Cluster`] says what NATS has said, and what can be done; [`Error::Unavailable`] if that
/// may pass.
pub(super) async fn make(
    context: &Context,
    cluster: &Cluster,
    common: &Common,
) -> Result<Info, Error> {
    let epoch = random_hex::<8>().map_err(Error::no_randomness)?;
    let mut metadata = common.metadata();
    metadata.insert(name::EPOCH.into(), epoch);
    let config = Config {
        name: cluster.stream.clone(),
        description: Some("The log of Tocsin's servers. Change it through them only.".into()),
        metadata,
        max_age: common.retention,
        max_bytes: in_signed(cluster.size),
        num_replicas: cluster.replicas,
        ..settings(&cluster.stream)
    };
    let error = match context.create_stream(config).await {
        Ok(stream) => {
            let replicas = cluster.replicas;
            tracing::info!(stream = cluster.stream, replicas, "the stream was made");
            return Ok(stream.cached_info().clone());
        }
        Err(error) => error,
    };
    // Whoever was slower may have to wait until that of another is shown.
    let looks = if lacks_nodes(&error) { 1 } else { LOOKS };
    for look in 0..looks {
        if look > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(info) = find(context, cluster).await? {
            return Ok(info);
        }
    }
    Err(explain(cluster, &error))
}

fn explain(cluster: &Cluster, error: &CreateStreamError) -> Error {
    let refuse = |reason| Error::Cluster { stream: cluster.stream.clone(), reason };
    if cluster.replicas > 1 && lacks_nodes(error) {
        return refuse(format!(
            "cannot be made with {} replicas: {error}; NATS needs so many nodes with JetStream \
             for that (--nats-replicas 1 makes do with one, and what was acknowledged goes with it)",
            cluster.replicas
        ));
    }
    match code(error) {
        Some(code) if code != ErrorCode::CLUSTER_NOT_AVAILABLE => {
            refuse(format!("cannot be made: {error}"))
        }
        _ => unreachable(cluster, &format!("the stream cannot be made: {error}")),
    }
}

/// Whether it has fewer nodes than there are to be replicas, or not enough room on so many.
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

/// What JetStream has said, if it was JetStream that did.
fn code(error: &CreateStreamError) -> Option<ErrorCode> {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}
