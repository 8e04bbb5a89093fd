//! Parsers of settings: addresses, times, sizes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use ipnet::IpNet;
use shared::telemetry::{self, LogFormat};

use super::setting::{Setting, SettingSource};
use super::{Config, Threads};
use crate::access::bucket::Rate;
use crate::error::Error;
use crate::net::addresses::{Listen, ListenAddress};
use crate::{duration_text, size};

const MAX_THREADS: u64 = 1_024;
/// The longest name of a NATS stream, in bytes. The name becomes part of subjects and file names.
const MAX_STREAM_NAME: usize = 32;

pub(super) fn flag(setting: &Setting) -> Result<bool, Error> {
    Ok(setting.text == "true")
}

pub(super) fn some_path(setting: &Setting) -> Result<Option<PathBuf>, Error> {
    Ok(Some(setting.path()))
}

/// Parses `unix:PATH`, or the forms that [`addresses`] parses.
pub(super) fn places(setting: &Setting) -> Result<Vec<Listen>, Error> {
    match setting.text.strip_prefix("unix:") {
        Some("") => Err(setting.fault("write a path, for example unix:/run/tocsin/server.sock")),
        Some(path) => Ok(vec![Listen::Unix(setting.source.path(path))]),
        None => Ok(addresses(setting)?.into_iter().map(Listen::Tcp).collect()),
    }
}

/// Parses an address. A port alone means both loopback addresses, but a machine may lack IPv6.
pub(super) fn addresses(setting: &Setting) -> Result<Vec<ListenAddress>, Error> {
    let Ok(port) = setting.text.parse::<u16>() else {
        return Ok(vec![ListenAddress { socket: socket(setting)?, given: true }]);
    };
    Ok(vec![
        ListenAddress { socket: (Ipv4Addr::LOCALHOST, port).into(), given: true },
        ListenAddress { socket: (Ipv6Addr::LOCALHOST, port).into(), given: false },
    ])
}

pub(super) fn admin_address(setting: &Setting) -> Result<Option<ListenAddress>, Error> {
    if setting.text == "off" {
        return Ok(None);
    }
    let socket = match setting.text.parse::<u16>() {
        Ok(port) => (Ipv4Addr::LOCALHOST, port).into(),
        Err(_) => socket(setting)?,
    };
    let given = !matches!(setting.source, SettingSource::Default(_));
    Ok(Some(ListenAddress { socket, given }))
}

fn socket(setting: &Setting) -> Result<SocketAddr, Error> {
    let text = &setting.text;
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = local {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        setting.fault("write PORT, ADDR:PORT or [ADDR6]:PORT, for example 127.0.0.1:9090")
    })
}

/// Parses a network, or a single address.
pub(super) fn network(setting: &Setting) -> Result<IpNet, Error> {
    let text = &setting.text;
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        setting.fault("write an address or a network, for example 10.0.0.7 or 10.0.0.0/8")
    })
}

pub(super) fn origin(config: &mut Config, setting: &Setting) -> Result<(), Error> {
    config.origins.allow(&setting.text).map_err(|error| setting.fault(error))
}

pub(super) fn nats_server(setting: &Setting) -> Result<ServerAddr, Error> {
    // An error must not repeat a password.
    if setting.text.contains('@') {
        let reason = "the address must not contain a user or a password: write USER:PASSWORD or a \
                      token into a file and name that with --nats-credentials";
        return Err(setting.source.fault(reason.into()));
    }
    let address = setting.text.parse::<ServerAddr>().ok();
    address
        .filter(|address| matches!(address.scheme(), "nats" | "tls"))
        .ok_or_else(|| setting.fault("write nats://HOST:PORT or tls://HOST:PORT"))
}

pub(super) fn stream_name(setting: &Setting) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let name = &setting.text;
    match (1..=MAX_STREAM_NAME).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(name.clone()),
        false => Err(setting.fault("write 1 to 32 characters of A-Z a-z 0-9 _ -")),
    }
}

pub(super) fn duration(
    allowed: RangeInclusive<Duration>,
) -> impl Fn(&Setting) -> Result<Duration, Error> {
    move |setting| {
        let form = "write a time, for example 500ms, 25s, 2m, 1h or 7d";
        let time = humantime::parse_duration(&setting.text).map_err(|_| setting.fault(form))?;
        within(time, &allowed, setting, duration_text::show)
    }
}

pub(super) fn bytes(allowed: RangeInclusive<u64>) -> impl Fn(&Setting) -> Result<u64, Error> {
    move |setting| {
        let bytes = size::parse(&setting.text).map_err(|error| setting.fault(error))?;
        within(bytes, &allowed, setting, size::show)
    }
}

/// Parses a number of bytes in memory. A number beyond the address space becomes `usize::MAX`.
pub(super) fn memory(allowed: RangeInclusive<u64>) -> impl Fn(&Setting) -> Result<usize, Error> {
    let bytes = bytes(allowed);
    move |setting| bytes(setting).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

pub(super) fn count(allowed: RangeInclusive<u64>) -> impl Fn(&Setting) -> Result<usize, Error> {
    move |setting| {
        let count = setting.text.parse().map_err(|_| setting.fault("write a whole number"))?;
        let count = within(count, &allowed, setting, |number| number.to_string())?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }
}

fn within<T: PartialOrd + Copy>(
    value: T,
    allowed: &RangeInclusive<T>,
    setting: &Setting,
    show: impl Fn(T) -> String,
) -> Result<T, Error> {
    if value < *allowed.start() {
        return Err(setting.fault(format!("must be at least {}", show(*allowed.start()))));
    }
    if value > *allowed.end() {
        return Err(setting.fault(format!("must be at most {}", show(*allowed.end()))));
    }
    Ok(value)
}

pub(super) fn threads(setting: &Setting) -> Result<Threads, Error> {
    let count = count(1..=MAX_THREADS)(setting)?;
    Ok(Threads(NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)))
}

/// Parses `N:BURST`, or `off`.
pub(super) fn rate(setting: &Setting) -> Result<Option<Rate>, Error> {
    if setting.text == "off" {
        return Ok(None);
    }
    let parts = setting.text.split_once(':');
    let numbers = parts.and_then(|(rate, burst)| Some((rate.parse().ok()?, burst.parse().ok()?)));
    let rate = numbers.and_then(|(rate, burst)| Rate::new(rate, burst));
    let form = "write N:BURST (N a second, BURST at once), for example 200:400, or off";
    rate.map(Some).ok_or_else(|| setting.fault(form))
}

pub(super) fn log_filter(setting: &Setting) -> Result<String, Error> {
    let good = telemetry::check(&setting.text);
    good.map(|()| setting.text.clone()).map_err(|error| setting.fault(error))
}

pub(super) fn log_format(setting: &Setting) -> Result<LogFormat, Error> {
    match &*setting.text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(setting.fault("write text or json")),
    }
}
