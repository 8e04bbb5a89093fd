//! The stream that many servers share.

use async_nats::ServerAddr;

use super::setting::Setting;
use super::{Checking, values};
use crate::error::Error;
use crate::log::nats::Cluster;

/// NATS has no streams with more.
const MOST_REPLICAS: u64 = 5;
const REPLICAS: u64 = 3;
const SIZE: u64 = 1 << 30;
/// A few of the largest messages.
const LEAST: u64 = 1 << 20;
const STREAM: &str = "tocsin";
/// Longer names do not fit into subjects and file names everywhere.
const LONGEST_NAME: usize = 32;

/// As they were written.
#[derive(Debug, Default)]
pub(super) struct NatsSettings {
    pub(super) servers: Vec<Setting>,
    pub(super) stream: Option<Setting>,
    pub(super) credentials: Option<Setting>,
    pub(super) ca: Option<Setting>,
    pub(super) replicas: Option<Setting>,
    pub(super) size: Option<Setting>,
}

impl Checking {
    /// `None` without a server of NATS; then nothing else may be said of it.
    pub(super) fn cluster(&mut self, settings: &NatsSettings) -> Option<Cluster> {
        let NatsSettings { servers, stream, credentials, ca, replicas, size } = settings;
        if servers.is_empty() {
            for useless in [stream, credentials, ca, replicas, size].into_iter().flatten() {
                self.or((), Err(useless.source.fault("means nothing without --nats".into())));
            }
            return None;
        }
        let servers = servers.iter().filter_map(|setting| {
            let server = server(setting);
            self.or(None, server.map(Some))
        });
        let servers = servers.collect();
        let file =
            |setting: &Option<Setting>| setting.as_ref().map(|file| file.source.path(&file.text));
        let replicas = replicas
            .as_ref()
            .map_or(Ok(REPLICAS), |setting| values::count(setting, 1..=MOST_REPLICAS));
        let replicas = self.or(REPLICAS, replicas);
        let size = size
            .as_ref()
            .map_or(Ok(SIZE), |setting| values::bytes(setting, LEAST..=i64::MAX as u64));
        Some(Cluster {
            servers,
            stream: self.stream(stream.as_ref()),
            credentials: file(credentials),
            ca: file(ca),
            replicas: usize::try_from(replicas).unwrap_or(1),
            size: self.or(SIZE, size),
        })
    }

    fn stream(&mut self, setting: Option<&Setting>) -> String {
        let Some(setting) = setting else { return STREAM.into() };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let good =
            (1..=LONGEST_NAME).contains(&setting.text.len()) && setting.text.bytes().all(allowed);
        let reason = "write 1 to 32 of A-Z a-z 0-9 _ -";
        self.or(
            STREAM.into(),
            good.then(|| setting.text.clone()).ok_or_else(|| setting.fault(reason)),
        )
    }
}

fn server(setting: &Setting) -> Result<ServerAddr, Error> {
    const FORM: &str = "write nats://HOST:PORT or tls://HOST:PORT";
    // A password must not be repeated.
    if setting.text.contains('@') {
        let reason = "no user or password in the address: put USER:PASSWORD or a token into a file and \
             name that with --nats-credentials";
        return Err(setting.source.fault(reason.into()));
    }
    let address: ServerAddr = setting.text.parse().map_err(|_| setting.fault(FORM))?;
    match address.scheme() {
        "nats" | "tls" => Ok(address),
        _ => Err(setting.fault(FORM)),
    }
}
