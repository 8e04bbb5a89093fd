//! The way to NATS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};

use tokio::sync::watch;

use super::{Cluster, unreachable};
use crate::error::Error;
use crate::secret;

/// Lost connections are noticed after two of these, and what is sent meanwhile has an unknown fate.
const PING: Duration = Duration::from_secs(2);
/// For one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Between attempts: a little longer each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the start tries.
const ATTEMPTS: u32 = 5;

/// What the file with the way to log in begins with, if `nsc` has made it.
const CREDS: &str = "-----BEGIN NATS USER JWT-----";

/// How often it has connected.
pub(super) type Connections = watch::Receiver<u64>;

/// Connects; from then on the connection comes back by itself.
///
/// # Errors
/// [`Error::Read`], [`Error::Content`] for files; [`Error::Unavailable`] if NATS does not answer in
/// time, or does not let this server in.
pub(super) async fn connect(cluster: &Cluster) -> Result<(Client, Connections), Error> {
    let addresses: Vec<ServerAddr> = cluster.servers.clone();
    let (mut attempt, count) = (0, Arc::new(watch::Sender::new(0)));
    loop {
        attempt += 1;
        let error = match options(cluster, &count)?.connect(addresses.as_slice()).await {
            Ok(client) => return Ok((client, count.subscribe())),
            Err(error) => error,
        };
        use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation, Tls};
        let is_final = matches!(error.kind(), Authentication | AuthorizationViolation | Tls);
        if is_final || attempt == ATTEMPTS {
            return Err(unreachable(cluster, &error));
        }
        if attempt == 1 {
            tracing::warn!(%error, "NATS does not answer; trying again");
        }
        tokio::time::sleep(pause(attempt as usize)).await;
    }
}

fn options(cluster: &Cluster, count: &Arc<watch::Sender<u64>>) -> Result<ConnectOptions, Error> {
    let count = Arc::clone(count);
    let mut options = ConnectOptions::new()
        .name("tocsin server")
        .ping_interval(PING)
        .connection_timeout(CONNECT)
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            if matches!(event, Event::Connected) {
                count.send_modify(|count| *count += 1);
            }
            async move { tell(&event) }
        });
    if let Some(file) = &cluster.ca {
        options = options.add_root_certificates(file.clone());
    }
    match &cluster.credentials {
        Some(file) => log_in(options, file),
        None => Ok(options),
    }
}

/// A file of `nsc`, or a first line `USER:PASSWORD`, or a token.
fn log_in(options: ConnectOptions, file: &Path) -> Result<ConnectOptions, Error> {
    const WHAT: &str = "NATS credentials file";
    let read = |source| Error::Read { what: WHAT, file: file.into(), source };
    let first = secret::first_line(WHAT, file)?;
    if first == CREDS {
        let text = std::fs::read_to_string(file).map_err(read)?;
        return options.credentials(&text).map_err(|_| Error::Content {
            what: WHAT,
            file: file.into(),
            reason: "it begins like one that `nsc` makes, but does not go on so".into(),
        });
    }
    Ok(match first.split_once(':') {
        Some((user, password)) => options.user_and_password(user.into(), password.into()),
        None => options.token(first),
    })
}

/// Before attempt number `attempt`.
fn pause(attempt: usize) -> Duration {
    let factor = u32::try_from(attempt).unwrap_or(u32::MAX);
    Duration::from_millis(100).saturating_mul(factor).min(LONGEST_PAUSE)
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => {
            tracing::warn!("the connection to NATS is lost; messages are refused until it is back");
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => {
            tracing::info!(%event, "NATS");
        }
        Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
            tracing::warn!(%event, "NATS");
        }
    }
}
