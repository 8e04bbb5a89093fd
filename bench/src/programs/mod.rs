//! The programs that are measured: ours, those that do the same job, and what they cost.

pub(crate) mod machine;
pub(crate) mod peers;
pub(crate) mod program;

use std::path::PathBuf;

use anyhow::{Result, ensure};

/// A build of one of our programs, under the name that the tables give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Build {
    pub(crate) fn gate(text: &str) -> Result<Self, String> {
        Self::parse(text, "gate")
    }

    pub(crate) fn server(text: &str) -> Result<Self, String> {
        Self::parse(text, "server")
    }

    /// Reads `[NAME=]PATH`; without a name it is `default`.
    fn parse(text: &str, default: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').unwrap_or((default, text));
        if name.is_empty() || path.is_empty() {
            return Err("give PATH, or NAME=PATH".to_owned());
        }
        Ok(Self { name: name.to_owned(), path: path.into() })
    }

    /// The builds that the user gave, or else the program `name` beside this one.
    ///
    /// # Errors
    /// When one of them is no file.
    pub(crate) fn given_or_beside(given: &[Self], name: &str) -> Result<Vec<Self>> {
        if given.is_empty() {
            let path = std::env::current_exe()?.with_file_name(name);
            let advice = format!("cargo build --release -p {name}, or give --{name} PATH");
            ensure!(path.is_file(), "no {name} beside this program: {advice}");
            return Ok(vec![Self { name: name.to_owned(), path }]);
        }
        for build in given {
            ensure!(build.path.is_file(), "{} is not a program", build.path.display());
        }
        Ok(given.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_have_names() {
        let named = Build::gate("mimalloc=/opt/gate").unwrap();
        assert_eq!(
            (named.name.as_str(), named.path.as_os_str()),
            ("mimalloc", "/opt/gate".as_ref())
        );
        assert_eq!(Build::gate("/opt/gate").unwrap().name, "gate");
        assert!(Build::gate("=x").is_err());
    }
}
