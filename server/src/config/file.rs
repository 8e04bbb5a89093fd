//! The configuration file: TOML with the options' names, and a table for each tag.
//!
//! The file is parsed without serde, so that all faults are reported together, each with its line.
//! No fault repeats a value, because the value may be a key.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::GivenOptions;
use super::names::nearest;
use super::setting::{Setting, SettingSource};
use super::table::{HISTORY, OPTIONS, OptionKind, OptionSpec, names_in_file};
use crate::error::Error;
use crate::file_permissions::require_regular;

/// The content of a configuration file, as far as it is valid.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) options: GivenOptions,
    /// The history of every tag whose own table does not set it.
    pub(super) history: HistoryTable,
    pub(super) tags: Vec<TagTable>,
    /// The numbers of the lines that are not TOML.
    pub(super) unreadable: Vec<usize>,
}

/// The settings that [`HISTORY`] names: count, age and bytes of the ring, then the same three of
/// inboxes.
pub(super) type HistoryTable = [[Option<Setting>; 3]; 2];

/// The table `[tags.NAME]`, which declares a tag.
#[derive(Debug)]
pub(super) struct TagTable {
    pub(super) name: Setting,
    pub(super) history: HistoryTable,
    /// Pairs of an action and its key, or the key's hash.
    pub(super) keys: Vec<(Setting, Setting)>,
    /// Pairs of an action and a file that contains its key, or the key's hash.
    pub(super) key_files: Vec<(Setting, Setting)>,
    /// The actions that need no key.
    pub(super) open: Vec<Setting>,
}

impl ConfigFile {
    /// Reads a file and adds its faults to `faults`. A running server that reads the file `again` refuses
    /// an empty one, because a file that is being rewritten is empty for a moment.
    pub(super) fn read(path: &Path, again: bool, faults: &mut Vec<Error>) -> Self {
        let text = match again {
            true => require_regular(path).and_then(|()| std::fs::read_to_string(path)),
            false => std::fs::read_to_string(path),
        };
        match text {
            Ok(text) if again && text.trim().is_empty() => {
                let reason = "the file is empty; a restart applies that".into();
                faults.push(Error::Config { file: path.into(), line: None, reason });
                Self::default()
            }
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

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn file(mut self) -> ConfigFile {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let mut file = ConfigFile::default();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start).min(self.text.len());
            // The message tells only what was expected. `Display` would quote the line, which may
            // contain a key.
            let reason = error.message().replace('\n', ", ");
            file.unreadable.push(self.line(at));
            let name = self.name_at(at).map(|name| format!("{name}: "));
            self.fault(at, name.unwrap_or_default() + &reason);
        }
        for (key, value) in table.get_ref() {
            let name = &**key.get_ref();
            if let Some(option) = OPTIONS.iter().find(|option| option.name == name) {
                let settings = self.settings(option, value);
                file.options.insert(option, settings);
            } else if name == "tags" {
                file.tags = self.tags(value);
            } else if !self.history(&mut file.history, name, value) {
                let known = names_in_file();
                let reason = match nearest(name, &known) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the options are {}", known.join(", ")),
                };
                self.fault(key.span().start, format!("`{name}` is no option; {reason}"));
            }
        }
        file
    }

    fn settings(&mut self, option: &OptionSpec, value: &Value<'_>) -> Vec<Setting> {
        match option.kind {
            OptionKind::Flag => self.flag(option.name, value).into_iter().collect(),
            OptionKind::One => self.text(option.name, value).into_iter().collect(),
            OptionKind::List | OptionKind::Sum => self.texts(option.name, value),
        }
    }

    fn tags(&mut self, value: &Value<'_>) -> Vec<TagTable> {
        let mut tags = Vec::new();
        for (name, value) in self.table("tags", value).into_iter().flatten() {
            let mut tag = TagTable {
                name: self.setting(name.span().start, name.get_ref(), Some("tags")),
                history: HistoryTable::default(),
                keys: Vec::new(),
                key_files: Vec::new(),
                open: Vec::new(),
            };
            for (key, value) in self.table("a tag", value).into_iter().flatten() {
                match &**key.get_ref() {
                    "keys" => tag.keys = self.by_action("keys", value),
                    "key-files" => tag.key_files = self.by_action("key-files", value),
                    "open" => tag.open = self.texts("open", value),
                    other if self.history(&mut tag.history, other, value) => {}
                    other => {
                        let names =
                            [&["keys", "key-files", "open"], &HISTORY[..]].concat().join(", ");
                        let reason =
                            format!("`{other}` is no option of a tag; the options are {names}");
                        self.fault(key.span().start, reason);
                    }
                }
            }
            tags.push(tag);
        }
        tags
    }

    /// If `name` is a history option, puts its value into the table and returns true.
    fn history(&mut self, table: &mut HistoryTable, name: &str, value: &Value<'_>) -> bool {
        let Some(index) = HISTORY.iter().position(|known| *known == name) else { return false };
        table[index / 3][index % 3] = self.text(HISTORY[index], value);
        true
    }

    fn by_action(&mut self, name: &'static str, value: &Value<'_>) -> Vec<(Setting, Setting)> {
        let mut pairs = Vec::new();
        for (action, value) in self.table(name, value).into_iter().flatten() {
            let action = self.setting(action.span().start, action.get_ref(), None);
            let texts = self.texts(name, value);
            pairs.extend(texts.into_iter().map(|text| (action.clone(), text)));
        }
        pairs
    }

    fn table<'v, 't>(&mut self, name: &str, value: &'v Value<'t>) -> Option<&'v DeTable<'t>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        self.fault(value.span().start, format!("{name} must be a table"));
        None
    }

    /// Reads one text, or an array of texts.
    fn texts(&mut self, name: &'static str, value: &Value<'_>) -> Vec<Setting> {
        match value.get_ref() {
            DeValue::Array(values) => {
                values.iter().filter_map(|value| self.text(name, value)).collect()
            }
            _ => self.text(name, value).into_iter().collect(),
        }
    }

    fn text(&mut self, name: &'static str, value: &Value<'_>) -> Option<Setting> {
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

    fn flag(&mut self, name: &'static str, value: &Value<'_>) -> Option<Setting> {
        let at = value.span().start;
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(self.setting(at, &flag.to_string(), Some(name)));
        }
        self.fault(at, format!("{name} must be true or false"));
        None
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

    /// The option that a line begins with, if it exists. An error must not repeat anything else
    /// from a line that is not TOML, because the line may contain a key.
    fn name_at(&self, at: usize) -> Option<&'static str> {
        let name = self.text.lines().nth(self.line(at) - 1)?.split('=').next()?.trim();
        names_in_file().into_iter().find(|known| *known == name)
    }

    fn fault(&mut self, at: usize, reason: String) {
        let fault = self.source(at, None).fault(reason);
        self.faults.push(fault);
    }
}
