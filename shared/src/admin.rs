//! The admin port, with pages for health, metrics and status.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::accept::Listener;
use crate::answer::{Answer, json, text, with_type};
use crate::linger::Lingering;
use crate::shutdown::Shutdown;

/// The most connections of administrators at the same time. Further ones wait in the kernel's
/// queue.
const CONNECTIONS: usize = 64;
/// The time-out for the request line and the headers.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

/// The data that a program reports to its administrators. It must not contain secrets.
pub trait Report: Send + Sync + 'static {
    /// The status, as a JSON object.
    fn status(&self) -> String;

    /// The reason why the program should get no traffic at the moment, if there is one.
    fn not_ready(&self) -> Option<&'static str> {
        None
    }

    /// The metrics in the OpenMetrics text format; `None` if the program has none.
    fn metrics(&self) -> Option<String> {
        None
    }
}

/// Serves `/healthz`, `/readyz`, `/status` and `/metrics`. The future never ends, so that the port
/// also answers while a stopping program waits for its last connections. Dropping the future closes
/// all connections.
pub async fn run(listener: Listener, report: Arc<impl Report>, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    // The semaphore is never closed, so this loop never ends.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let (socket, _peer) = listener.accept().await;
        let Ok(stream) = socket.register() else { continue };
        let serving = serve(stream, Arc::clone(&report), shutdown.clone());
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, report: Arc<impl Report>, shutdown: Shutdown) {
    let service = hyper::service::service_fn(move |request| {
        let answer = answer(&request, &*report, shutdown.is_stopping());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(Lingering::new(stream)), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "admin connection ended");
    }
}

fn answer(request: &Request<Incoming>, report: &impl Report, stopping: bool) -> Answer {
    if !is_local_name(request.headers()) {
        // The request may come from a web page whose own host name now resolves to this machine
        // (DNS rebinding).
        return text(
            StatusCode::FORBIDDEN,
            "The Host header must be localhost or an IP address.\n",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Only GET is allowed here.\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if stopping => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        "/readyz" => match report.not_ready() {
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            None => text(StatusCode::OK, "ready\n"),
        },
        "/status" => json(StatusCode::OK, report.status()),
        "/metrics" => match report.metrics() {
            Some(metrics) => with_type(StatusCode::OK, metrics.into(), OPEN_METRICS),
            None => text(StatusCode::NOT_FOUND, "This program has no metrics.\n"),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "Not found. The admin port has /healthz, /readyz, /status and /metrics.\n",
        ),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the `Host` header is localhost or an IP address.
fn is_local_name(headers: &HeaderMap) -> bool {
    let Some(Ok(host)) = headers.get(header::HOST).map(|host| host.to_str()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn only_localhost_and_ip_literals_are_answered() {
        let local = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            is_local_name(&headers)
        };
        for good in
            ["localhost", "LOCALHOST:9092", "127.0.0.1:9092", "[::1]:9092", "[::1]", "10.0.0.1"]
        {
            assert!(local(good), "{good}");
        }
        for bad in ["evil.example", "evil.example:9092", "localhost.evil.example", ""] {
            assert!(!local(bad), "{bad}");
        }
        assert!(!is_local_name(&HeaderMap::new()));
    }
}
