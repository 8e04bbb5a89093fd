//! The options that the operator gave: on the command line, in the environment or in the file.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::setting::{Setting, SettingSource};
use super::table::{OPTIONS, OptionKind, OptionSpec};

/// The given settings, by the name of their option.
#[derive(Debug, Clone, Default)]
pub(super) struct GivenOptions(BTreeMap<&'static str, Vec<Setting>>);

impl GivenOptions {
    pub(super) fn insert(&mut self, option: &OptionSpec, settings: Vec<Setting>) {
        self.0.insert(option.name, settings);
    }

    pub(super) fn remove(&mut self, name: &str) -> Vec<Setting> {
        self.0.remove(name).unwrap_or_default()
    }

    pub(super) fn first(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)?.first()
    }

    /// Combines the options of `self` with those of the `file`. The values of `self` win; for
    /// options of kind `Sum` both apply.
    pub(super) fn over(mut self, mut file: Self) -> Self {
        for option in OPTIONS {
            let mut settings = self.remove(option.name);
            if settings.is_empty() || option.kind == OptionKind::Sum {
                settings.extend(file.remove(option.name));
            }
            self.insert(option, settings);
        }
        self
    }

    /// The settings of an option, or its defaults if none was given.
    pub(super) fn of(&mut self, option: &OptionSpec) -> Vec<Setting> {
        let settings = self.remove(option.name);
        if !settings.is_empty() {
            return settings;
        }
        let source = SettingSource::Default(option.name);
        let setting = |text: &&str| Setting { text: (*text).into(), source: source.clone() };
        option.defaults.iter().map(setting).collect()
    }
}

impl Args for GivenOptions {
    fn augment_args(command: Command) -> Command {
        command.args(OPTIONS.iter().map(OptionSpec::argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for GivenOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self::default();
        for option in OPTIONS {
            let texts: Vec<String> = match option.kind {
                OptionKind::Flag if matches.get_flag(option.name) => vec!["true".into()],
                OptionKind::Flag => Vec::new(),
                _ => matches.get_many(option.name).into_iter().flatten().cloned().collect(),
            };
            let source = SettingSource::Option(option.name);
            let setting = |text| Setting { text, source: source.clone() };
            given.insert(option, texts.into_iter().map(setting).collect());
        }
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl OptionSpec {
    fn argument(&self) -> Arg {
        // The help comes from doc comments, whose lines begin with a space.
        let help = match self.default_words {
            "" => self.help.trim_start().to_owned(),
            words => format!("{} [default: {words}]", self.help.trim_start()),
        };
        let argument = Arg::new(self.name).long(self.name).env(self.variable).help(help);
        match self.kind {
            OptionKind::Flag => argument.action(ArgAction::SetTrue),
            OptionKind::One => argument.value_name(self.value),
            OptionKind::List | OptionKind::Sum => {
                argument.value_name(self.value).action(ArgAction::Append).value_delimiter(',')
            }
        }
    }
}
