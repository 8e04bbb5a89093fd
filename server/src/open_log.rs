//! Opens the log that the configuration chooses.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending};
use shared::shutdown::Shutdown;

use crate::access::auth::Guarded;
use crate::config::Config;
use crate::error::Error;
use crate::hex::random_hex;
use crate::hub::history::TagBounds;
use crate::hub::{Hub, dedup};
use crate::id::IdKey;
use crate::log::nats::{self, CommonHistory, CommonSettings};
use crate::log::sqlite;
use crate::log::{Log, MemoryLog, Replica};

/// A log that is open but has no hub yet.
#[derive(Debug)]
pub(crate) struct OpenLog {
    /// The epoch: a random name of this log. A log that begins anew gets another epoch.
    pub epoch: Box<str>,
    /// The number of the last entry that was deleted; the log begins right after it.
    pub floor: u64,
    /// The key from which the addresses in the log were computed.
    pub id_key: IdKey,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Memory,
    Sqlite { log: Box<sqlite::OpenedDatabase>, retention: Duration, size: u64 },
    Nats(Box<nats::OpenedStream>),
}

/// A log that is ready to append entries.
pub(crate) struct StartedLog {
    pub log: Box<dyn Log>,
    /// Completes only if the log fails; the output is the reason.
    pub ended: BoxFuture<'static, Error>,
}

impl OpenLog {
    /// Opens the log: in a data directory, in NATS or in memory, as configured.
    ///
    /// # Errors
    /// The reason why the data directory, the stream or the id key cannot be used.
    pub(crate) async fn open(config: &Config) -> Result<Self, Error> {
        let file = config.id_key_file.as_deref();
        if let (Some(nats), Some(file)) = (config.cluster(), file) {
            let id_key = IdKey::load_or_create(file)?;
            let log = nats::OpenedStream::open(nats, common_settings(config, &id_key)).await?;
            let (epoch, floor) = (log.found.epoch.as_str().into(), log.found.floor);
            return Ok(Self { epoch, floor, id_key, backend: Backend::Nats(Box::new(log)) });
        }
        let Some(data) = &config.data else {
            let id_key = match file {
                Some(file) => IdKey::load_or_create(file),
                None => IdKey::generate().map_err(Error::no_randomness),
            };
            let epoch = random_hex::<8>().map_err(Error::no_randomness)?.into();
            return Ok(Self { epoch, floor: 0, id_key: id_key?, backend: Backend::Memory });
        };
        let log = sqlite::OpenedDatabase::open(data)?;
        Ok(Self {
            epoch: log.epoch.as_str().into(),
            floor: log.floor,
            id_key: log.id_key(file)?,
            backend: Backend::Sqlite {
                log: Box::new(log),
                retention: retention(config),
                size: config.data_size,
            },
        })
    }

    /// Applies the entries of the log to `hub`, which may take seconds. Then the log is ready to
    /// append. Returns `None` if `shutdown` came first.
    ///
    /// # Errors
    /// The reason why the log cannot be read.
    pub(crate) async fn start(
        self,
        hub: &Arc<Hub>,
        shutdown: &Shutdown,
    ) -> Result<Option<StartedLog>, Error> {
        let hub = Arc::clone(hub);
        let (log, retention, size) = match self.backend {
            Backend::Sqlite { log, retention, size } => (log, retention, size),
            Backend::Memory => {
                let log = Box::new(MemoryLog::new(hub));
                return Ok(Some(StartedLog { log, ended: pending().boxed() }));
            }
            Backend::Nats(log) => {
                let sink: Arc<dyn Replica> = hub;
                let started = log.start(sink, shutdown).await?;
                return Ok(started
                    .map(|log| StartedLog { ended: log.ended().boxed(), log: Box::new(log) }));
            }
        };
        let shutdown = shutdown.clone();
        let reading = tokio::task::spawn_blocking(move || {
            if log.replay(&*hub, &|| shutdown.is_stopping())?.is_break() {
                return Ok(None);
            }
            let log = log.start(hub, retention, size)?;
            let ended = log.ended().map(|()| Error::Defect("the log ended"));
            Ok(Some(StartedLog { ended: ended.boxed(), log: Box::new(log) }))
        });
        reading.await.map_err(|_| Error::Defect("reading the log ended early"))?
    }
}

/// How long the log keeps an entry: the longest age in the history plus the time for which a `mid`
/// is remembered. A retry is recognised by the first copy in the log, even after a restart.
fn retention(config: &Config) -> Duration {
    config.history.longest_age().saturating_add(dedup::WINDOW)
}

/// The settings that must be equal on all servers that share the stream.
pub(crate) fn common_settings(config: &Config, id_key: &IdKey) -> CommonSettings {
    let numbers = |bounds: TagBounds| {
        let [ring, inbox] = [bounds.ring, bounds.inbox].map(|bounds| {
            let age = u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX);
            [bounds.count as u64, age, bounds.bytes as u64]
        });
        [ring[0], ring[1], ring[2], inbox[0], inbox[1], inbox[2]]
    };
    let settings = &config.history;
    let by_tag = settings.by_tag().map(|(tag, bounds)| (tag.to_string(), numbers(bounds)));
    let history =
        CommonHistory::new(by_tag.collect(), numbers(settings.usual), settings.max_memory as u64);
    let names = |pairs: Vec<Guarded>| pairs.iter().map(Guarded::to_string).collect();
    CommonSettings {
        id_key: id_key.fingerprint(),
        history,
        protected: names(config.policy.auth.protected()),
        open: names(config.policy.auth.opened()),
        retention: retention(config),
    }
}
