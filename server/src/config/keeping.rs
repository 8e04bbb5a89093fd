//! How much is kept of each tag.

use std::time::Duration;

use super::Checking;
use super::file::{KeepTable, TagTable};
use super::setting::Setting;
use super::values;
use crate::access::auth::Auth;
use crate::hub::history::{HistoryBounds, Settings, TagBounds};
use crate::limits;
use crate::protocol::Protectable;

/// More messages of one kind are a mistake: a client takes no more than `limits::LAST` at once.
const MOST_MESSAGES: u64 = 1_000_000;
/// More bytes of one kind are a mistake too: they would be kept in memory.
const MOST_BYTES: u64 = 1 << 40;
/// For kept messages of all tags together.
const MEMORY: usize = 256 * 1024 * 1024;
/// Less memory could not hold the largest messages of a few people.
const LEAST_MEMORY: u64 = 1 << 20;

/// Where the count of a kind stands in [`KeepTable::settings`]; its age and bytes follow.
type Kind = usize;
const RING: Kind = 0;
const INBOX: Kind = 3;

impl Checking {
    /// `whole` is the file's top level: the defaults of every tag.
    pub(super) fn keeping(
        &mut self,
        max_memory: Option<&Setting>,
        whole: &KeepTable,
        tables: &[TagTable],
        auth: &Auth,
    ) -> Settings {
        let memory = max_memory.map_or(Ok(MEMORY), |setting| {
            values::bytes(setting, LEAST_MEMORY..=MOST_BYTES).map(in_memory)
        });
        let usual = self.bounds(whole, TagBounds::default());
        // A tag's own count may make use of them.
        let counted = |kind: Kind| tables.iter().any(|table| table.keep.settings()[kind].is_some());
        self.warn_of_useless(whole, TagBounds::default(), counted);
        let mut settings = Settings::new(self.or(MEMORY, memory), usual);
        for (tag, action) in auth.protected() {
            if action == Protectable::Send {
                settings.set(tag, usual);
            }
        }
        if !auth.protected().iter().any(|(_, action)| *action == Protectable::Send) {
            let useless = whole.inbox_settings().find(|setting| setting.text != "0");
            let reason = "means nothing: there are inboxes only where a key protects `send`, and \
                          no tag has one";
            self.warn(useless.map(|setting| setting.source.warning(reason)));
        }
        for table in tables {
            // A bad name has been found already.
            let Ok(tag) = table.tag() else { continue };
            let faults = self.faults.len();
            let mut bounds = self.bounds(&table.keep, usual);
            self.warn_of_useless(&table.keep, usual, |_| false);
            // What cannot be read has been told of.
            let good = self.faults.len() == faults;
            if !auth.is_protected(&tag, Protectable::Send) {
                let useless = table.keep.inbox_settings().find(|setting| setting.text != "0");
                if let Some(setting) = useless.filter(|_| good) {
                    let reason = "there are inboxes only where a key protects `send`, or strangers \
                         could fill them";
                    self.or((), Err(setting.fault(reason)));
                }
                bounds = bounds.without_inbox();
            }
            settings.set(tag, bounds);
        }
        settings
    }

    fn bounds(&mut self, table: &KeepTable, default: TagBounds) -> TagBounds {
        let [ring, ring_age, ring_bytes, inbox, inbox_age, inbox_bytes] = table.settings();
        TagBounds {
            ring: self.kind([ring, ring_age, ring_bytes], default.ring),
            inbox: self.kind([inbox, inbox_age, inbox_bytes], default.inbox),
        }
    }

    /// Ages and sizes of what is not kept at all.
    fn warn_of_useless(
        &mut self,
        table: &KeepTable,
        default: TagBounds,
        counted: impl Fn(Kind) -> bool,
    ) {
        let settings = table.settings();
        for (kind, default) in [(RING, default.ring), (INBOX, default.inbox)] {
            let none = settings[kind].map_or(default.count == 0, |count| count.text == "0");
            let useless = settings[kind + 1].or(settings[kind + 2]);
            if none && !counted(kind) {
                let reason = "means nothing where the count is 0, which keeps none";
                self.warn(useless.map(|setting| setting.source.warning(reason)));
            }
        }
    }

    fn kind(&mut self, settings: [Option<&Setting>; 3], default: HistoryBounds) -> HistoryBounds {
        let [count, age, bytes] = settings;
        let count = count.map_or(Ok(default.count), |setting| {
            values::count(setting, 0..=MOST_MESSAGES).map(in_memory)
        });
        let age = age.map_or(Ok(default.age), |setting| {
            values::duration(setting, Duration::ZERO..=limits::TTL)
        });
        let bytes = bytes.map_or(Ok(default.bytes), |setting| {
            values::bytes(setting, 0..=MOST_BYTES).map(in_memory)
        });
        let bounds = HistoryBounds {
            count: self.or(default.count, count),
            age: self.or(default.age, age),
            bytes: self.or(default.bytes, bytes),
        };
        // Each of them can switch it off.
        let off = bounds.age.is_zero() || bounds.bytes == 0;
        HistoryBounds { count: if off { 0 } else { bounds.count }, ..bounds }
    }
}

/// What exceeds the machine's address space is bounded by it anyhow.
fn in_memory(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
