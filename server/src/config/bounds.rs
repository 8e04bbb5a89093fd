//! How often clients may do what, and how much there may be in all.

use super::setting::Setting;
use super::{Checking, values};
use crate::access::rate_limit::Limits;
use crate::hub::RegistrationLimits;
use crate::limits;

const MOST_OF_ANYTHING: u64 = 1 << 32;
const MOST_BYTES: u64 = 1 << 50;
/// One outbox may have a sixty-fourth of it: two of the largest messages.
const LEAST_BACKLOG: u64 = 8 << 20;

/// How much there may be in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Connections; fewer if the limit of open files is lower.
    pub connections: usize,
    /// What is registered.
    pub room: RegistrationLimits,
    /// Bytes that wait for all sockets together.
    pub backlog: usize,
    /// Bytes of memory below which newcomers are told to come back; 0: never.
    pub spare_memory: u64,
}

impl Checking {
    /// In the order of the fields.
    pub(super) fn rates(&mut self, settings: &[Option<Setting>; 4]) -> Limits {
        let usual = Limits::default();
        let mut rate = |setting: &Option<Setting>, usual| match setting {
            None => usual,
            Some(setting) => self.or(usual, values::rate(setting)),
        };
        let [connect, set, send, wrong_key] = settings;
        Limits {
            connect: rate(connect, usual.connect),
            set: rate(set, usual.set),
            send: rate(send, usual.send),
            wrong_key: rate(wrong_key, usual.wrong_key),
        }
    }

    /// In the order of the fields.
    pub(super) fn in_all(&mut self, settings: &[Option<Setting>; 5]) -> Capacity {
        let [connections, tags, registrations, backlog, spare_memory] = settings;
        let mut count = |setting: &Option<Setting>, usual: usize| match setting {
            None => usual,
            Some(setting) => {
                let count = values::count(setting, 1..=MOST_OF_ANYTHING);
                self.or(usual, count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
            }
        };
        let connections = count(connections, limits::CONNECTIONS);
        let room = RegistrationLimits {
            tags: count(tags, limits::TAGS),
            registrations: count(registrations, limits::REGISTRATIONS),
        };
        let mut size = |setting: &Option<Setting>, usual: u64, least: u64| match setting {
            None => usual,
            Some(setting) => self.or(usual, values::bytes(setting, least..=MOST_BYTES)),
        };
        let backlog = size(backlog, limits::BACKLOG as u64, LEAST_BACKLOG);
        Capacity {
            connections,
            room,
            backlog: usize::try_from(backlog).unwrap_or(usize::MAX),
            spare_memory: size(spare_memory, limits::SPARE_MEMORY, 0),
        }
    }
}
