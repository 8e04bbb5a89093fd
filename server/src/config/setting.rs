//! A setting and where it was written. Error messages name the place.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;

/// A setting: its text, and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) text: String,
    pub(super) source: SettingSource,
}

/// Where a setting was written.
#[derive(Debug, Clone)]
pub(super) enum SettingSource {
    /// The operator did not write the setting. It is the default of this option.
    Default(&'static str),
    /// The setting was written on the command line or in the environment, as this option.
    Option(&'static str),
    /// The setting was written in this line of the configuration file. `option` is the name of the
    /// option, if the line has one.
    File { file: Arc<Path>, line: usize, option: Option<&'static str> },
}

impl Setting {
    /// An error about this setting. The error repeats the text, so the text must not be a secret.
    pub(super) fn fault(&self, reason: impl Display) -> Error {
        self.source.fault(format!("{}: {reason}", self.text))
    }

    /// The path of the file that the setting names.
    pub(super) fn path(&self) -> PathBuf {
        self.source.path(&self.text)
    }
}

impl SettingSource {
    pub(super) fn fault(&self, reason: String) -> Error {
        match self {
            Self::Default(option) | Self::Option(option) => Error::Option { option, reason },
            Self::File { file, line, option } => {
                let name = option.map(|option| format!("{option}: ")).unwrap_or_default();
                let (file, reason) = (file.to_path_buf(), name + &reason);
                Error::Config { file, line: Some(*line), reason }
            }
        }
    }

    /// A warning with the same text as an error.
    pub(super) fn warning(&self, reason: &str) -> String {
        self.fault(reason.into()).to_string()
    }

    /// The configuration file, if the setting was written there.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Default(_) | Self::Option(_) => None,
            Self::File { file, .. } => Some(file),
        }
    }

    /// The path of a file that is named in this source. Paths in a configuration file are relative
    /// to its directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.file().and_then(Path::parent).unwrap_or(Path::new("")).join(name)
    }
}
