//! Which log the configuration chooses.

use std::sync::Arc;
use std::time::Duration;

use shared::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

use super::sqlite::{Opened, Replayed};
use super::{Log, MemoryLog};
use crate::config::Config;
use crate::error::Error;
use crate::hub::Hub;
use crate::id::{IdKey, random_hex};
use crate::mids;

/// A log that is open but has no hub yet.
#[derive(Debug)]
pub struct Chosen {
    /// The name of its lifetime.
    pub epoch: Box<str>,
    /// The last entry that is gone: those kept begin right after it.
    pub floor: u64,
    /// The key that its addresses are made with.
    pub id_key: IdKey,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    opened: Opened,
    retention: Duration,
    size: u64,
}

/// A log to append to.
#[derive(Debug)]
pub struct Started {
    /// The log.
    pub log: Box<dyn Log>,
    /// Cancelled when the log has ended by itself, which it must not.
    pub ended: CancellationToken,
}

impl Chosen {
    /// Opens the log.
    ///
    /// # Errors
    /// What keeps the data directory or the id key from being used.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let file = config.id_key_file.as_deref();
        let Some(data) = &config.data else {
            let id_key = match file {
                Some(file) => IdKey::load_or_create(file),
                None => IdKey::generate().map_err(Error::no_randomness),
            };
            let epoch = random_hex::<8>().map_err(Error::no_randomness)?.into();
            return Ok(Self { epoch, floor: 0, id_key: id_key?, disk: None });
        };
        let opened = Opened::open(&data.dir)?;
        Ok(Self {
            epoch: opened.epoch().into(),
            floor: opened.floor(),
            id_key: opened.id_key(file)?,
            disk: Some(Disk {
                opened,
                // A retry after a restart is known by the first copy in the log, which therefore
                // outlives every retry that is still of use to anybody.
                retention: config.keeping.longest_age().saturating_add(mids::WINDOW),
                size: data.size,
            }),
        })
    }

    /// Lets `hub` read what there is, which may take seconds, then appends to it. `None` if
    /// `shutdown` came first.
    ///
    /// # Errors
    /// What keeps the log from being read.
    pub async fn start(
        self,
        hub: &Arc<Hub>,
        shutdown: &Shutdown,
    ) -> Result<Option<Started>, Error> {
        let Some(Disk { opened, retention, size }) = self.disk else {
            let log = Box::new(MemoryLog::new(Arc::clone(hub)));
            return Ok(Some(Started { log, ended: CancellationToken::new() }));
        };
        let (hub, shutdown) = (Arc::clone(hub), shutdown.clone());
        let reading = tokio::task::spawn_blocking(move || {
            if opened.replay(&*hub, &|| shutdown.is_stopping())? == Replayed::InPart {
                return Ok(None);
            }
            let log = opened.start(hub, retention, size)?;
            Ok(Some(Started { ended: log.ended(), log: Box::new(log) }))
        });
        reading.await.map_err(|_| Error::Defect("reading the log ended early"))?
    }
}
