//! What a setting's text means: addresses, times, sizes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use shared::telemetry;

use super::setting::Setting;
use super::{Listen, ListenAddress};
use crate::access::bucket::Rate;
use crate::error::Error;
use crate::size;

/// Both loopback addresses. Not every machine has the one of IPv6.
pub(super) fn loopback(port: u16) -> [ListenAddress; 2] {
    [
        ListenAddress { socket: (Ipv4Addr::LOCALHOST, port).into(), given: true },
        ListenAddress { socket: (Ipv6Addr::LOCALHOST, port).into(), given: false },
    ]
}

/// `unix:PATH`, or as [`addresses`].
pub(super) fn places(setting: &Setting) -> Result<Vec<Listen>, Error> {
    match setting.text.strip_prefix("unix:") {
        Some("") => Err(setting.fault("write a path, as in unix:/run/tocsin/server.sock")),
        Some(path) => Ok(vec![Listen::Unix(setting.source.path(path))]),
        None => Ok(addresses(setting)?.into_iter().map(Listen::Tcp).collect()),
    }
}

/// A network, or a single address.
pub(super) fn network(setting: &Setting) -> Result<IpNet, Error> {
    let text = &setting.text;
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| setting.fault("write an address or a network, as in 10.0.0.7 or 10.0.0.0/8"))
}

/// A port stands for both loopback addresses.
pub(super) fn addresses(setting: &Setting) -> Result<Vec<ListenAddress>, Error> {
    match setting.text.parse() {
        Ok(port) => Ok(loopback(port).into()),
        Err(_) => Ok(vec![ListenAddress { socket: socket(setting)?, given: true }]),
    }
}

pub(super) fn admin_address(setting: &Setting) -> Result<Option<ListenAddress>, Error> {
    if setting.text == "off" {
        return Ok(None);
    }
    let socket = match setting.text.parse::<u16>() {
        Ok(port) => (Ipv4Addr::LOCALHOST, port).into(),
        Err(_) => socket(setting)?,
    };
    Ok(Some(ListenAddress { socket, given: true }))
}

fn socket(setting: &Setting) -> Result<SocketAddr, Error> {
    let text = &setting.text;
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    if let Some(port) = local {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse()
        .map_err(|_| setting.fault("write PORT, ADDR:PORT or [ADDR6]:PORT, as in 127.0.0.1:9090"))
}

pub(super) fn duration(
    setting: &Setting,
    allowed: RangeInclusive<Duration>,
) -> Result<Duration, Error> {
    match humantime::parse_duration(&setting.text) {
        Ok(duration) if duration < *allowed.start() => {
            Err(setting.fault(&format!("at least {:?}", allowed.start())))
        }
        Ok(duration) if duration > *allowed.end() => {
            let most = humantime::format_duration(*allowed.end());
            Err(setting.fault(&format!("at most {most}")))
        }
        Ok(duration) => Ok(duration),
        Err(_) => Err(setting.fault("write a time such as 500ms, 25s, 2m, 1h or 7d")),
    }
}

pub(super) fn bytes(setting: &Setting, allowed: RangeInclusive<u64>) -> Result<u64, Error> {
    let bytes = size::parse(&setting.text).map_err(|error| setting.fault(&error.to_string()))?;
    within(bytes, &allowed, size::show).map_err(|reason| setting.fault(&reason))
}

pub(super) fn count(setting: &Setting, allowed: RangeInclusive<u64>) -> Result<u64, Error> {
    let count = setting.text.parse().map_err(|_| setting.fault("write a whole number"))?;
    within(count, &allowed, |number| number.to_string()).map_err(|reason| setting.fault(&reason))
}

fn within(
    number: u64,
    allowed: &RangeInclusive<u64>,
    show: impl Fn(u64) -> String,
) -> Result<u64, String> {
    if number < *allowed.start() {
        return Err(format!("at least {}", show(*allowed.start())));
    }
    if number > *allowed.end() {
        return Err(format!("at most {}", show(*allowed.end())));
    }
    Ok(number)
}

/// `N:BURST`, N a second, or `off`.
pub(super) fn rate(setting: &Setting) -> Result<Option<Rate>, Error> {
    if setting.text == "off" {
        return Ok(None);
    }
    let parts = setting.text.split_once(':');
    let numbers = parts.and_then(|(rate, burst)| Some((rate.parse().ok()?, burst.parse().ok()?)));
    let rate = numbers.and_then(|(rate, burst)| Rate::new(rate, burst));
    let form = "write N:BURST, so many a second and so many at once, as in 200:400, or off";
    rate.map(Some).ok_or_else(|| setting.fault(form))
}

pub(super) fn log_filter(setting: Option<Setting>) -> Result<String, Error> {
    let Some(setting) = setting else { return Ok("info,async_nats=warn".into()) };
    match telemetry::check(&setting.text) {
        Ok(()) => Ok(setting.text),
        Err(error) => Err(setting.fault(&error.to_string())),
    }
}

pub(super) fn log_format(setting: Option<Setting>) -> Result<telemetry::LogFormat, Error> {
    match setting {
        None => Ok(telemetry::LogFormat::Text),
        Some(setting) => match &*setting.text {
            "text" => Ok(telemetry::LogFormat::Text),
            "json" => Ok(telemetry::LogFormat::Json),
            _ => Err(setting.fault("text or json")),
        },
    }
}
