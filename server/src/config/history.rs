//! How much is kept of each tag.

use std::time::Duration;

use super::Resolver;
use super::file::{HistoryTable, TagTable};
use super::setting::Setting;
use super::values;
use crate::access::auth::Protectable;
use crate::error::Error;
use crate::hub::history::{HistoryBounds, Settings, TagBounds};
use crate::limits;

/// More messages of one kind are a mistake: a client takes no more than `limits::LAST` at once.
const MOST_MESSAGES: u64 = 1_000_000;
/// More bytes of one kind are a mistake too: they would be kept in memory.
const MOST_BYTES: u64 = 1 << 40;

/// Where the count of a kind stands in [`HistoryTable::settings`]; its age and bytes follow.
type Kind = usize;
const RING: Kind = 0;
const INBOX: Kind = 3;

impl Resolver {
    /// `whole` is the file's top level: the defaults of every tag.
    pub(super) fn history(&mut self, whole: &HistoryTable, tables: &[TagTable]) {
        let usual = self.bounds(whole, TagBounds::default());
        // A tag's own count may make use of them.
        let counted =
            |kind: Kind| tables.iter().any(|table| table.history.settings()[kind].is_some());
        self.warn_of_useless(whole, TagBounds::default(), counted);
        let mut settings = Settings::new(self.config.keeping.max_memory, usual);
        let protected = self.config.policy.auth.protected();
        for (tag, action) in protected.iter().cloned() {
            if action == Protectable::Send {
                settings.set(tag, usual);
            }
        }
        if !protected.iter().any(|(_, action)| *action == Protectable::Send) {
            let useless = whole.inbox_settings().find(|setting| setting.text != "0");
            let reason = "means nothing: there are inboxes only where a key protects `send`, and \
                          no tag has one";
            self.config.warn(useless.map(|setting| setting.source.warning(reason)));
        }
        for table in tables {
            // A bad name has been found already.
            let Ok(tag) = table.tag() else { continue };
            let faults = self.faults.len();
            let mut bounds = self.bounds(&table.history, usual);
            self.warn_of_useless(&table.history, usual, |_| false);
            // What cannot be read has been told of.
            let good = self.faults.len() == faults;
            if !self.config.policy.auth.is_protected(&tag, Protectable::Send) {
                let useless = table.history.inbox_settings().find(|setting| setting.text != "0");
                if let Some(setting) = useless.filter(|_| good) {
                    let reason = "there are inboxes only where a key protects `send`, or strangers \
                         could fill them";
                    self.or((), Err(setting.fault(reason)));
                }
                bounds = bounds.without_inbox();
            }
            settings.set(tag, bounds);
        }
        self.config.keeping = settings;
    }

    fn bounds(&mut self, table: &HistoryTable, default: TagBounds) -> TagBounds {
        let [ring, ring_age, ring_bytes, inbox, inbox_age, inbox_bytes] = table.settings();
        TagBounds {
            ring: self.kind([ring, ring_age, ring_bytes], default.ring),
            inbox: self.kind([inbox, inbox_age, inbox_bytes], default.inbox),
        }
    }

    /// Ages and sizes of what is not kept at all.
    fn warn_of_useless(
        &mut self,
        table: &HistoryTable,
        default: TagBounds,
        counted: impl Fn(Kind) -> bool,
    ) {
        let settings = table.settings();
        for (kind, default) in [(RING, default.ring), (INBOX, default.inbox)] {
            let none = settings[kind].map_or(default.count == 0, |count| count.text == "0");
            let useless = settings[kind + 1].or(settings[kind + 2]);
            if none && !counted(kind) {
                let reason = "means nothing where the count is 0, which keeps none";
                self.config.warn(useless.map(|setting| setting.source.warning(reason)));
            }
        }
    }

    fn kind(&mut self, settings: [Option<&Setting>; 3], default: HistoryBounds) -> HistoryBounds {
        let [count, age, bytes] = settings;
        let bounds = HistoryBounds {
            count: self.bound(count, default.count, values::count(0..=MOST_MESSAGES)),
            age: self.bound(age, default.age, values::duration(Duration::ZERO..=limits::TTL)),
            bytes: self.bound(bytes, default.bytes, values::memory(0..=MOST_BYTES)),
        };
        // Each of them can switch it off.
        let off = bounds.age.is_zero() || bounds.bytes == 0;
        HistoryBounds { count: if off { 0 } else { bounds.count }, ..bounds }
    }

    fn bound<T>(
        &mut self,
        setting: Option<&Setting>,
        default: T,
        parse: impl Fn(&Setting) -> Result<T, Error>,
    ) -> T {
        match setting {
            Some(setting) => self.or(default, parse(setting)),
            None => default,
        }
    }
}
