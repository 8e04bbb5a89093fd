//! A value together with where it was written, so that an error can say so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;

/// A text that somebody wrote as a setting.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) text: String,
    pub(super) source: SettingSource,
}

/// Where a setting was written.
#[derive(Debug, Clone)]
pub(super) enum SettingSource {
    /// Nowhere: it is the option's default.
    Default(&'static str),
    /// On the command line or in the environment.
    Option(&'static str),
    /// In the configuration file; as what, if that does not go without saying.
    File { file: Arc<Path>, line: usize, option: Option<&'static str> },
}

impl Setting {
    /// An error about this text, which is repeated: it must be no secret.
    pub(super) fn fault(&self, reason: &str) -> Error {
        self.source.fault(format!("{}: {reason}", self.text))
    }

    /// The file that this text names: in a configuration file, relative to that file's directory.
    pub(super) fn path(&self) -> PathBuf {
        self.source.path(&self.text)
    }

    pub(super) fn is_default(&self) -> bool {
        matches!(self.source, SettingSource::Default(_))
    }
}

impl SettingSource {
    pub(super) fn fault(&self, reason: String) -> Error {
        match self {
            Self::Default(option) | Self::Option(option) => Error::Option { option, reason },
            Self::File { file, line, option } => {
                let reason = match option {
                    Some(option) => format!("{option}: {reason}"),
                    None => reason,
                };
                Error::Config { file: file.to_path_buf(), line: Some(*line), reason }
            }
        }
    }

    /// The same words for what is no fault.
    pub(super) fn warning(&self, reason: &str) -> String {
        self.fault(reason.into()).to_string()
    }

    /// The configuration file, if it was written there.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Default(_) | Self::Option(_) => None,
            Self::File { file, .. } => Some(file),
        }
    }

    /// A file named at this place: in a configuration file, relative to that file's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.file().and_then(Path::parent).unwrap_or(Path::new("")).join(name)
    }
}
