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

/// A lost connection is noticed after two of these. Appends sent meanwhile have the outcome `unknown`.
const PING: Duration = Duration::from_secs(2);
/// How many messages may wait to be written. They stay in this queue while the connection is lost and
/// are sent when it is back, though their senders got the outcome `unknown`.
const CAPACITY: usize = 256;
/// The time-out of one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// The pause between attempts grows up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long the start tries: NATS may be starting too, after a boot of the machine. Well below the 90
/// seconds after which systemd gives up a service that is not ready.
pub(super) const START: Duration = Duration::from_secs(30);
/// How long a command tries: somebody waits for it.
pub(super) const COMMAND: Duration = Duration::from_secs(5);
/// How often the start logs that it still tries.
const PROGRESS: Duration = Duration::from_secs(10);

/// The first line of a credentials file that `nsc` has made.
const CREDS: &str = "-----BEGIN NATS USER JWT-----";

/// Counts the connections made so far.
pub(super) type Connections = watch::Receiver<u64>;

/// Connects within `patience`. From then on the client reconnects by itself.
///
/// # Errors
/// [`Error::Read`], [`Error::Content`] for files; [`Error::Unavailable`] if NATS does not answer in
/// time, or refuses the credentials.
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

/// The error, if no further attempt would help.
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

/// The file is one of `nsc`, or its first line is `USER:PASSWORD` or a token.
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

/// The pause before an attempt.
fn pause(attempt: usize) -> Duration {
    let factor = u32::try_from(attempt).unwrap_or(u32::MAX);
    Duration::from_millis(100).saturating_mul(factor).min(LONGEST_PAUSE)
}

/// Logs once that the connection is lost, and once that it is back. `away` holds the time of the loss;
/// the errors of the attempts meanwhile are all alike.
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
