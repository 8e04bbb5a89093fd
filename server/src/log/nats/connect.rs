//! The connection to NATS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectOptions, Event};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{NatsConfig, unreachable};
use crate::error::Error;
use crate::secret_file;

/// The interval of pings to NATS. A lost connection is noticed after two intervals; appends that
/// are sent in the meantime get the outcome `unknown`.
const PING: Duration = Duration::from_secs(2);
/// How many messages may wait in the client's queue. While the connection is lost they stay in the
/// queue, and they are sent when it is back. By then their senders may have got the outcome
/// `unknown`.
const CAPACITY: usize = 256;
/// The time-out of one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to connect. The first pauses are shorter.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a starting server tries to connect, because NATS may also be starting after a boot of
/// the machine. This is well below the 90 seconds after which systemd gives up a starting service.
pub(super) const START: Duration = Duration::from_secs(30);
/// How long a command tries to connect while its user waits.
pub(super) const COMMAND: Duration = Duration::from_secs(5);
/// How often a starting server logs that it still tries to connect.
const PROGRESS: Duration = Duration::from_secs(10);

/// The first line of a credentials file that NATS's tool `nsc` has created.
const CREDS: &str = "-----BEGIN NATS USER JWT-----";

/// The number of connections that the client has made so far.
pub(super) type Connections = watch::Receiver<u64>;

/// Connects within `patience`. Afterwards the client reconnects by itself.
///
/// # Errors
/// [`Error::Read`] or [`Error::Content`] if a file cannot be used; [`Error::Unavailable`] if NATS
/// does not answer in time or refuses the credentials.
pub(super) async fn connect(
    cluster: &NatsConfig,
    patience: Duration,
) -> Result<(Client, Connections), Error> {
    let (mut attempt, count) = (0, Arc::new(watch::Sender::new(0)));
    let begun = Instant::now();
    let (deadline, mut next_progress) = (begun + patience, begun);
    loop {
        attempt += 1;
        let connecting = options(cluster, &count)?.connect(cluster.servers.as_slice());
        let error = match timeout_at(deadline, connecting).await {
            Ok(Ok(client)) => return Ok((client, count.subscribe())),
            Ok(Err(error)) => error,
            Err(_) => return Err(gave_up(cluster, patience, &"no answer")),
        };
        if let Some(refused) = refused(&error) {
            return Err(unreachable(cluster, &refused));
        }
        let now = Instant::now();
        let again = now + pause(attempt);
        if again >= deadline {
            return Err(gave_up(cluster, patience, &error));
        }
        if now >= next_progress {
            next_progress = now + PROGRESS;
            let (tried, left) = (begun.elapsed().as_secs(), (deadline - now).as_secs());
            tracing::warn!(%error, "NATS at {cluster} does not answer for {tried} s; trying for {left} s more");
        }
        tokio::time::sleep_until(again).await;
    }
}

fn gave_up(cluster: &NatsConfig, patience: Duration, last: &dyn std::fmt::Display) -> Error {
    let reason = format!(
        "no connection within {} s ({last}); start NATS, or correct the addresses of --nats",
        patience.as_secs()
    );
    unreachable(cluster, &reason)
}

/// The text of the error if further attempts are useless, else `None`.
fn refused(error: &ConnectError) -> Option<String> {
    use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation, Tls};
    let remedy = match error.kind() {
        Authentication | AuthorizationViolation => {
            "NATS refuses the credentials; give the right --nats-credentials"
        }
        Tls => "its certificate is not trusted, or it speaks no TLS; see --nats-ca",
        _ => return None,
    };
    Some(format!("{error}: {remedy}"))
}

fn options(cluster: &NatsConfig, count: &Arc<watch::Sender<u64>>) -> Result<ConnectOptions, Error> {
    let (count, away) = (Arc::clone(count), Mutex::new(None));
    let mut options = ConnectOptions::new()
        .name("tocsin server")
        .ping_interval(PING)
        .connection_timeout(CONNECT)
        .max_reconnects(None)
        .client_capacity(CAPACITY)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            if matches!(event, Event::Connected) {
                count.send_modify(|count| *count += 1);
            }
            log_event(&event, &away);
            async {}
        });
    if let Some(file) = &cluster.ca {
        options = options.add_root_certificates(file.clone());
    }
    match &cluster.credentials {
        Some(file) => log_in(options, file),
        None => Ok(options),
    }
}

/// Sets the credentials. The file was created by `nsc`, or its first line is `USER:PASSWORD` or a
/// token.
fn log_in(options: ConnectOptions, file: &Path) -> Result<ConnectOptions, Error> {
    const WHAT: &str = "NATS credentials file";
    let read = |source| Error::Read { what: WHAT, file: file.into(), source };
    let first = secret_file::first_line(WHAT, file)?;
    if first == CREDS {
        let text = std::fs::read_to_string(file).map_err(read)?;
        return options.credentials(&text).map_err(|_| Error::Content {
            what: WHAT,
            file: file.into(),
            reason: "it begins like a file of `nsc`, but the rest is damaged; export it again \
                     with `nsc generate creds`"
                .into(),
        });
    }
    Ok(match first.split_once(':') {
        Some((user, password)) => options.user_and_password(user.into(), password.into()),
        None => options.token(first),
    })
}

/// The pause before the attempt with this number.
fn pause(attempt: usize) -> Duration {
    let factor = u32::try_from(attempt).unwrap_or(u32::MAX);
    Duration::from_millis(100).saturating_mul(factor).min(LONGEST_PAUSE)
}

/// Logs once that the connection is lost, and once that it is back. `away` holds the time of the
/// loss. The errors of the attempts in between are all alike, so they are only logged for
/// debugging.
fn log_event(event: &Event, away: &Mutex<Option<Instant>>) {
    match event {
        Event::Connected => match away.lock().take() {
            None => tracing::info!("connected to NATS"),
            Some(since) => {
                tracing::warn!("connected to NATS again, after {} s", since.elapsed().as_secs());
            }
        },
        Event::Disconnected => {
            if away.lock().replace(Instant::now()).is_none() {
                tracing::warn!(
                    "the connection to NATS is lost; messages are refused until it is back"
                );
            }
        }
        Event::LameDuckMode | Event::Draining | Event::Closed => {
            tracing::info!(%event, "NATS");
        }
        Event::ClientError(_) if away.lock().is_some() => tracing::debug!(%event, "NATS"),
        Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
            tracing::warn!(%event, "NATS");
        }
    }
}
