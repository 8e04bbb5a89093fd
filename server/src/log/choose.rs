//! Which log the configuration chooses.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending};
use shared::shutdown::Shutdown;

use super::sqlite::{self, Replayed};
use super::{Log, MemoryLog, Replica, nats};
use crate::config::Config;
use crate::error::Error;
use crate::hub::Hub;
use crate::hub::dedup;
use crate::id::{IdKey, random_hex};

/// A log that is open but has no hub yet.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The name of its lifetime.
    pub epoch: Box<str>,
    /// The last entry that is gone: those kept begin right after it.
    pub floor: u64,
    /// The key that its addresses are made with.
    pub id_key: IdKey,
    opened: OpenedLog,
}

#[derive(Debug)]
enum OpenedLog {
    Memory,
    Disk { log: Box<sqlite::OpenedDatabase>, retention: Duration, size: u64 },
    Nats(Box<nats::OpenedStream>),
}

/// A log to append to.
pub(crate) struct Started {
    /// The log.
    pub log: Box<dyn Log>,
    /// Ends when the log has ended by itself, which it must not, and answers why.
    pub ended: BoxFuture<'static, Error>,
}

impl Chosen {
    /// Opens the log.
    ///
    /// # Errors
    /// What keeps the data directory, the stream or the id key from being used.
    pub(crate) async fn open(config: &Config) -> Result<Self, Error> {
        let file = config.id_key_file.as_deref();
        if let (Some(cluster), Some(file)) = (config.cluster(), file) {
            let id_key = IdKey::load_or_create(file)?;
            let protected = config.policy.auth.protected();
            let log =
                nats::OpenedStream::open(cluster, &config.history, &protected, &id_key).await?;
            let (epoch, floor) = (log.epoch().into(), log.floor());
            return Ok(Self { epoch, floor, id_key, opened: OpenedLog::Nats(Box::new(log)) });
        }
        let Some(data) = &config.data else {
            let id_key = match file {
                Some(file) => IdKey::load_or_create(file),
                None => IdKey::generate().map_err(Error::no_randomness),
            };
            let epoch = random_hex::<8>().map_err(Error::no_randomness)?.into();
            return Ok(Self { epoch, floor: 0, id_key: id_key?, opened: OpenedLog::Memory });
        };
        let log = sqlite::OpenedDatabase::open(data)?;
        Ok(Self {
            epoch: log.epoch().into(),
            floor: log.floor(),
            id_key: log.id_key(file)?,
            opened: OpenedLog::Disk {
                log: Box::new(log),
                // A retry after a restart is known by the first copy in the log, which therefore
                // outlives every retry that is still of use to anybody.
                retention: config.history.longest_age().saturating_add(dedup::WINDOW),
                size: config.data_size,
            },
        })
    }

    /// Lets `hub` read what there is, which may take seconds, then appends to it. `None` if
    /// `shutdown` came first.
    ///
    /// # Errors
    /// What keeps the log from being read.
    pub(crate) async fn start(
        self,
        hub: &Arc<Hub>,
        shutdown: &Shutdown,
    ) -> Result<Option<Started>, Error> {
        let (log, retention, size) = match self.opened {
            OpenedLog::Disk { log, retention, size } => (log, retention, size),
            OpenedLog::Memory => {
                let log = Box::new(MemoryLog::new(Arc::clone(hub)));
                return Ok(Some(Started { log, ended: pending().boxed() }));
            }
            OpenedLog::Nats(log) => {
                let sink: Arc<dyn Replica> = Arc::<Hub>::clone(hub);
                let started = log.start(sink, shutdown).await?;
                return Ok(
                    started.map(|log| Started { ended: log.ended().boxed(), log: Box::new(log) })
                );
            }
        };
        let (hub, shutdown) = (Arc::clone(hub), shutdown.clone());
        let reading = tokio::task::spawn_blocking(move || {
            if log.replay(&*hub, &|| shutdown.is_stopping())? == Replayed::InPart {
                return Ok(None);
            }
            let log = log.start(hub, retention, size)?;
            let ended = log.ended();
            let ended = async move {
                ended.cancelled().await;
                Error::Defect("the log ended")
            };
            Ok(Some(Started { ended: ended.boxed(), log: Box::new(log) }))
        });
        reading.await.map_err(|_| Error::Defect("reading the log ended early"))?
    }
}
