//! The configuration file: TOML with the options' names, and tables for tags.
//!
//! Walked by hand rather than by serde, so that every fault is found in one go, each with its line
//! and without the value in question: that may be a key.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::GivenOptions;
use super::names;
use super::setting::{Setting, SettingSource};
use super::table::{OPTIONS, OptionKind};
use crate::error::Error;

/// What a file says, as far as it makes sense.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) options: GivenOptions,
    /// What holds for every tag that says nothing else.
    pub(super) history: HistoryTable,
    pub(super) tags: Vec<TagTable>,
    /// Lines that are no TOML.
    pub(super) unreadable: Vec<usize>,
}

/// How much is kept.
#[derive(Debug, Default)]
pub(super) struct HistoryTable {
    /// In the order of [`HistoryTable::NAMES`].
    settings: [Option<Setting>; 6],
}

impl HistoryTable {
    pub(super) const NAMES: [&'static str; 6] =
        ["ring", "ring-age", "ring-bytes", "inbox", "inbox-age", "inbox-bytes"];

    /// Count, age and bytes of the ring, then of inboxes.
    pub(super) fn settings(&self) -> [Option<&Setting>; 6] {
        self.settings.each_ref().map(Option::as_ref)
    }

    /// What is said of inboxes.
    pub(super) fn inbox_settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings[3..].iter().flatten()
    }
}

/// `[tags.NAME]`: declares a tag.
#[derive(Debug)]
pub(super) struct TagTable {
    pub(super) name: Setting,
    pub(super) history: HistoryTable,
    /// Action and key or hash.
    pub(super) keys: Vec<(Setting, Setting)>,
    /// Action and a file whose first line is the key or hash.
    pub(super) key_files: Vec<(Setting, Setting)>,
}

impl ConfigFile {
    /// Reads a file; what is wrong with it goes to `faults`.
    pub(super) fn read(path: &Path, faults: &mut Vec<Error>) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Reader { file: path.into(), text: &text, faults }.file(),
            Err(source) => {
                faults.push(Error::Read { what: "configuration", file: path.into(), source });
                Self::default()
            }
        }
    }
}

struct Reader<'a> {
    file: Arc<Path>,
    text: &'a str,
    faults: &'a mut Vec<Error>,
}

impl Reader<'_> {
    fn file(mut self) -> ConfigFile {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let mut file = ConfigFile::default();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start).min(self.text.len());
            // Its message tells what was expected, its other output quotes the line.
            let reason = error.message().replace('\n', ", ");
            file.unreadable.push(self.line(at));
            self.fault(
                at,
                match self.name_at(at) {
                    Some(name) => format!("{name}: {reason}"),
                    None => reason,
                },
            );
        }
        for (key, value) in table.into_inner() {
            let at = key.span().start;
            let option = OPTIONS.iter().find(|option| option.name == key.get_ref());
            match &**key.get_ref() {
                _ if let Some(option) = option => {
                    let settings = match option.kind {
                        OptionKind::Flag => self.flag(option.name, &value),
                        OptionKind::One => self.text(option.name, value).into_iter().collect(),
                        OptionKind::List | OptionKind::Sum => self.texts(option.name, value),
                    };
                    file.options.insert(option, settings);
                }
                "tags" => file.tags = self.tags(value),
                other if self.history(&mut file.history, other, &value) => {}
                other => {
                    let reason = match names::nearest(other, &names::in_file()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("there are {}", names::in_file().join(", ")),
                    };
                    self.fault(at, format!("`{other}` is no option; {reason}"));
                }
            }
        }
        file
    }

    fn tags(&mut self, value: Spanned<DeValue<'_>>) -> Vec<TagTable> {
        let mut tags = Vec::new();
        for (name, value) in self.table("tags", value) {
            let mut tag = TagTable {
                name: self.setting(name.span().start, name.get_ref(), Some("tags")),
                history: HistoryTable::default(),
                keys: Vec::new(),
                key_files: Vec::new(),
            };
            for (key, value) in self.table("a tag", value) {
                let at = key.span().start;
                match &**key.get_ref() {
                    "keys" => tag.keys = self.by_action("keys", value),
                    "key-files" => tag.key_files = self.by_action("key-files", value),
                    other if self.history(&mut tag.history, other, &value) => {}
                    other => self.fault(
                        at,
                        format!(
                            "`{other}` is nothing that a tag has; there are {}",
                            [&["keys", "key-files"], &HistoryTable::NAMES[..]].concat().join(", ")
                        ),
                    ),
                }
            }
            tags.push(tag);
        }
        tags
    }

    /// Whether `name` is a bound of what is kept, which is taken over then.
    fn history(
        &mut self,
        table: &mut HistoryTable,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> bool {
        let known = HistoryTable::NAMES.iter().position(|known| *known == name);
        let Some(index) = known else { return false };
        table.settings[index] = self.text(HistoryTable::NAMES[index], value.clone());
        true
    }

    fn by_action(
        &mut self,
        name: &'static str,
        value: Spanned<DeValue<'_>>,
    ) -> Vec<(Setting, Setting)> {
        let mut pairs = Vec::new();
        for (action, value) in self.table(name, value) {
            let action = self.setting(action.span().start, action.get_ref(), None);
            let texts = self.texts(name, value);
            pairs.extend(texts.into_iter().map(|text| (action.clone(), text)));
        }
        pairs
    }

    fn table<'v>(&mut self, name: &str, value: Spanned<DeValue<'v>>) -> DeTable<'v> {
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Table(table) => table,
            _ => {
                self.fault(at, format!("{name} must be a table"));
                DeTable::new()
            }
        }
    }

    /// One text, or a list of them.
    fn texts(&mut self, name: &'static str, value: Spanned<DeValue<'_>>) -> Vec<Setting> {
        match value.get_ref() {
            DeValue::Array(_) => {
                let DeValue::Array(values) = value.into_inner() else { return Vec::new() };
                values.into_iter().filter_map(|value| self.text(name, value)).collect()
            }
            _ => self.text(name, value).into_iter().collect(),
        }
    }

    fn text(&mut self, name: &'static str, value: Spanned<DeValue<'_>>) -> Option<Setting> {
        let at = value.span().start;
        match value.get_ref() {
            DeValue::String(text) => Some(self.setting(at, text, Some(name))),
            // A port may be written as a number.
            DeValue::Integer(number) => Some(self.setting(at, number.as_str(), Some(name))),
            _ => {
                self.fault(at, format!("{name} must be a text in quotes"));
                None
            }
        }
    }

    fn flag(&mut self, name: &'static str, value: &Spanned<DeValue<'_>>) -> Vec<Setting> {
        let at = value.span().start;
        if let DeValue::Boolean(flag) = value.get_ref() {
            return vec![self.setting(at, &flag.to_string(), Some(name))];
        }
        self.fault(at, format!("{name} must be true or false"));
        Vec::new()
    }

    fn setting(&self, at: usize, text: &str, option: Option<&'static str>) -> Setting {
        Setting { text: text.to_owned(), source: self.source(at, option) }
    }

    fn source(&self, at: usize, option: Option<&'static str>) -> SettingSource {
        SettingSource::File { file: Arc::clone(&self.file), line: self.line(at), option }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text[..at.min(self.text.len())].matches('\n').count()
    }

    /// The option that a line is about, if it says so: of what cannot be read, nothing else may be
    /// repeated.
    fn name_at(&self, at: usize) -> Option<&'static str> {
        let name = self.text.lines().nth(self.line(at) - 1)?.split('=').next()?.trim();
        names::in_file().into_iter().find(|known| *known == name)
    }

    fn fault(&mut self, at: usize, reason: String) {
        let fault = self.source(at, None).fault(reason);
        self.faults.push(fault);
    }
}
