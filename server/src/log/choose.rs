//! Which log the configuration chooses.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::sqlite::Opened;
use super::{Log, MemoryLog};
use crate::config::Config;
use crate::error::Error;
use crate::hub::Hub;
use crate::id::{IdKey, random_hex};

/// A log that is open but has no hub yet.
#[derive(Debug)]
pub struct Chosen {
    /// The name of its lifetime.
    pub epoch: Box<str>,
    /// The last entry that is gone: those kept begin right after it.
    pub floor: u64,
    /// The key that its addresses are made with.
    pub id_key: IdKey,
    disk: Option<Opened>,
}

impl Chosen {
    /// Opens the log.
    ///
    /// # Errors
    /// What keeps the data directory or the id key from being used.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let file = config.id_key_file.as_deref();
        if let Some(data) = &config.data {
            let opened = Opened::open(&data.dir)?;
            let id_key = opened.id_key(file)?;
            let (epoch, floor) = (opened.epoch().into(), opened.floor());
            return Ok(Self { epoch, floor, id_key, disk: Some(opened) });
        }
        let epoch = random_hex::<8>().map_err(Error::no_randomness)?.into();
        let id_key = match file {
            Some(file) => IdKey::load_or_create(file)?,
            None => IdKey::generate().map_err(Error::no_randomness)?,
        };
        Ok(Self { epoch, floor: 0, id_key, disk: None })
    }

    /// Lets `hub` read what there is, then appends to it. May take seconds: not for a thread that
    /// others wait for. `stop` ends the reading early.
    ///
    /// The token is cancelled when the log has ended by itself, which it must not.
    ///
    /// # Errors
    /// What keeps the log from being read.
    pub fn start(
        self,
        config: &Config,
        hub: &Arc<Hub>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Box<dyn Log>, CancellationToken), Error> {
        let (Some(opened), Some(data)) = (self.disk, &config.data) else {
            let log = MemoryLog::new(Arc::clone(hub));
            return Ok((Box::new(log), CancellationToken::new()));
        };
        opened.replay(&**hub, stop)?;
        let sink = Arc::clone(hub) as Arc<_>;
        let log = opened.start(sink, config.keeping.longest_age(), data.size)?;
        let ended = log.ended();
        Ok((Box::new(log), ended))
    }
}
