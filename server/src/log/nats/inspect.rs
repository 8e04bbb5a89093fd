//! Looking at a stream without making or changing anything.

use async_nats::jetstream::Context;

use super::stream::{Common, check, is_missing};
use super::{Cluster, unreachable};
use crate::error::Error;

/// What a stream comes to that fits.
#[derive(Debug)]
pub(crate) struct Looked {
    /// How many entries it holds.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The last one's number.
    pub last: u64,
    /// What holds although the configuration says something else.
    pub warnings: Vec<String>,
}

/// What there is, if there is such a stream; nothing is made or changed. Without `common` there is
/// no id key yet, which the servers of a stream have.
///
/// # Errors
/// As [`super::stream::open`].
pub(super) async fn at(
    context: &Context,
    cluster: &Cluster,
    common: Option<&Common>,
) -> Result<Option<Looked>, Error> {
    let refuse = |reason| Error::Cluster { stream: cluster.stream.clone(), reason };
    let info = match context.get_stream(&cluster.stream).await {
        Ok(stream) => stream.cached_info().clone(),
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(unreachable(cluster, &error)),
    };
    let no_key = || {
        "it is there, but the file of --id-key-file is not: put that of its servers there, or the \
         start makes another, which fits nobody's IDs"
    };
    let common = common.ok_or_else(|| refuse(no_key().into()))?;
    let warnings = check(&info.config, cluster, common).map_err(refuse)?;
    let (entries, last) = (info.state.messages, info.state.last_sequence);
    Ok(Some(Looked { entries, last, bytes: info.state.bytes, warnings }))
}
