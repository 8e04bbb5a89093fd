//! The server that a command is about: one that runs, or one started for the occasion.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tempfile::TempDir;

use super::ours::neighbour;
use super::start::{Kind, Places, Running, start};
use crate::cli::load::TargetOptions;
use crate::load::target::Target;

pub(crate) struct Subject {
    pub(crate) target: Arc<Target>,
    pub(crate) url: String,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) pid: Option<u32>,
    /// Ended before its directory goes.
    _started: Option<(Running, TempDir)>,
}

impl Subject {
    /// # Errors
    /// When it is not known, or does not come up.
    pub(crate) fn of(options: &TargetOptions, tags: &[String]) -> anyhow::Result<Self> {
        if let Some(url) = &options.url {
            let key = options.key_file.as_deref().map(first_line).transpose()?;
            let target = Arc::new(Target::at(url, key, options.ca.as_deref())?);
            return Ok(Self {
                target,
                url: url.to_string(),
                key_file: options.key_file.clone(),
                pid: options.pid,
                _started: None,
            });
        }
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let places = places(options, directory.path())?;
        let running = start(options.program, &places, tags)?;
        Ok(Self {
            target: Arc::clone(&running.target),
            url: running.url(),
            key_file: running.key_file.clone(),
            pid: Some(running.pid()),
            _started: Some((running, directory)),
        })
    }
}

fn places(options: &TargetOptions, directory: &Path) -> anyhow::Result<Places> {
    let server = match &options.server {
        Some(path) => path.clone(),
        None if options.program == Kind::Server => neighbour()?,
        None => PathBuf::new(),
    };
    Ok(Places { directory: directory.to_owned(), server, peers: options.peers_dir.clone() })
}

fn first_line(file: &Path) -> anyhow::Result<String> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
