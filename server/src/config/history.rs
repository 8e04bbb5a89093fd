//! The settings of the history: how many messages each tag retains.

use std::time::Duration;

use super::Resolver;
use super::file::{HistoryTable, TagTable};
use super::setting::Setting;
use super::values;
use crate::access::auth::Scope;
use crate::error::Error;
use crate::hub::history::{HistoryBounds, Settings, TagBounds};
use crate::id::Tag;
use crate::limits;
use crate::protocol::Protectable;

const SEND: Protectable = Protectable::Send;

/// The largest count of messages. A larger one is probably a mistake, because a client receives at
/// most `limits::LAST` broadcasts.
const MAX_MESSAGES: u64 = 1_000_000;
/// The largest number of bytes, 1 TiB. A larger one is probably a mistake, because the messages are
/// in memory.
const MAX_BYTES: u64 = 1 << 40;

impl Resolver {
    /// Parses the history options. `top` has those at the top of the file, which apply to each tag
    /// that has no option of its own in `tables`.
    pub(super) fn history(&mut self, top: &HistoryTable, tables: &[TagTable]) {
        let usual = self.tag_bounds(top, TagBounds::default());
        // The table of a tag may have the count, and the top of the file the age.
        let counted = |kind: usize| tables.iter().any(|table| table.history[kind][0].is_some());
        self.warn_of_useless(top, TagBounds::default(), counted);
        let auth = self.config.policy.auth.clone();
        // Anyone could fill the inboxes of a tag on which anyone may send.
        let bounds_of = |scope: &Scope, bounds: TagBounds| match auth.is_open(scope, SEND) {
            true => bounds.without_inbox(),
            false => bounds,
        };
        let mut settings =
            Settings::new(self.config.history.max_memory, bounds_of(&Scope::Every, usual));
        let rules = [auth.protected(), auth.opened()].concat();
        let named: Vec<Tag> = rules
            .into_iter()
            .filter_map(|pair| pair.scope.tag().filter(|_| pair.action == SEND).cloned())
            .collect();
        if let Some(inbox) = inbox_wanted(top)
            && auth.is_open(&Scope::Every, SEND)
            && named.iter().all(|tag| auth.is_open(&Scope::One(tag.clone()), SEND))
        {
            let reason = "has no effect: a tag has inboxes only while its `send` needs a key, and \
                          it is open on every tag";
            self.config.warn(Some(inbox.source.warning(reason)));
        }
        for tag in named {
            let bounds = bounds_of(&Scope::One(tag.clone()), usual);
            settings.set(tag, bounds);
        }
        for table in tables {
            // An invalid name was already reported together with the keys.
            let Ok(tag) = table.tag() else { continue };
            let faults = self.faults.len();
            let bounds = self.tag_bounds(&table.history, usual);
            self.warn_of_useless(&table.history, usual, |_| false);
            let scope = Scope::One(tag.clone());
            // This fault is reported only if the table has no other.
            if let Some(inbox) = inbox_wanted(&table.history)
                && auth.is_open(&scope, SEND)
                && self.faults.len() == faults
            {
                let reason = "`send` is open on this tag, so it has no inboxes: anyone could fill \
                              them";
                self.faults.push(inbox.fault(reason));
            }
            settings.set(tag, bounds_of(&scope, bounds));
        }
        self.config.history = settings;
    }

    fn tag_bounds(&mut self, [ring, inbox]: &HistoryTable, default: TagBounds) -> TagBounds {
        TagBounds {
            ring: self.bounds(ring, default.ring),
            inbox: self.bounds(inbox, default.inbox),
        }
    }

    /// Warns of an age or a size that has no effect because the count is 0, unless the table of a
    /// tag has a count.
    fn warn_of_useless(
        &mut self,
        table: &HistoryTable,
        default: TagBounds,
        counted: impl Fn(usize) -> bool,
    ) {
        for (kind, default) in [default.ring, default.inbox].into_iter().enumerate() {
            let [count, age, bytes] = &table[kind];
            let none = count.as_ref().map_or(default.count == 0, |count| count.text == "0");
            if let (true, Some(useless)) = (none && !counted(kind), age.as_ref().or(bytes.as_ref()))
            {
                let reason = "has no effect: the count is 0, so no message is retained";
                self.config.warn(Some(useless.source.warning(reason)));
            }
        }
    }

    fn bounds(
        &mut self,
        [count, age, bytes]: &[Option<Setting>; 3],
        default: HistoryBounds,
    ) -> HistoryBounds {
        let bounds = HistoryBounds {
            count: self.bound(count, default.count, values::count(0..=MAX_MESSAGES)),
            age: self.bound(age, default.age, values::duration(Duration::ZERO..=limits::TTL)),
            bytes: self.bound(bytes, default.bytes, values::memory(0..=MAX_BYTES)),
        };
        // With an age or a size of 0, no message is retained.
        let off = bounds.age.is_zero() || bounds.bytes == 0;
        HistoryBounds { count: if off { 0 } else { bounds.count }, ..bounds }
    }

    fn bound<T>(
        &mut self,
        setting: &Option<Setting>,
        default: T,
        parse: impl Fn(&Setting) -> Result<T, Error>,
    ) -> T {
        let Some(setting) = setting else { return default };
        self.or(default, parse(setting))
    }
}

/// The first inbox option of a table whose value is not 0.
fn inbox_wanted([_, inbox]: &HistoryTable) -> Option<&Setting> {
    inbox.iter().flatten().find(|setting| setting.text != "0")
}
