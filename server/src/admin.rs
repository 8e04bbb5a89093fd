//! The administrators' side, on a port of its own that no gate forwards to.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use shared::linger::Lingering;
use shared::shutdown::Shutdown;
use tokio::net::TcpStream;

use crate::http::{json, text};
use crate::limits;
use crate::publish::Service;

/// What the administrators' side tells of.
#[derive(Debug)]
pub struct Admin {
    /// Registry, log, keys.
    pub service: Arc<Service>,
    /// Open connections, registered or not.
    pub connections: Arc<AtomicUsize>,
    /// When the server came up.
    pub started: Instant,
}

impl Admin {
    /// Serves one connection.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, shutdown: Shutdown) {
        let stopping = shutdown.clone();
        let service = hyper::service::service_fn(move |request| {
            let answer = self.answer(&request, shutdown.is_stopping());
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADERS)
            .max_buf_size(limits::HEAD)
            .serve_connection(TokioIo::new(Lingering::new(stream)), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "admin connection ended");
        }
    }

    fn answer(&self, request: &Request<Incoming>, stopping: bool) -> Response<Full<Bytes>> {
        if !is_local_name(request.headers()) {
            // A page of a stranger that made its name point here (DNS rebinding).
            return text(StatusCode::FORBIDDEN, "Ask for localhost or an IP address.\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Only GET.\n");
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" if stopping => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
            "/readyz" => text(StatusCode::OK, "ready\n"),
            "/status" => json(StatusCode::OK, self.status()),
            _ => text(StatusCode::NOT_FOUND, "Here are /healthz, /readyz and /status.\n"),
        }
    }

    /// Counts only: no IDs, no keys.
    fn status(&self) -> String {
        let hub = &self.service.hub;
        let tags: serde_json::Map<_, _> = hub
            .counts()
            .into_iter()
            .map(|counts| {
                let value = json!({"registrations": counts.registrations, "ids": counts.ids});
                (counts.tag.to_string(), value)
            })
            .collect();
        let protected: Vec<String> = self
            .service
            .auth
            .protected()
            .into_iter()
            .map(|(tag, action)| format!("{tag}:{}", action.name()))
            .collect();
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.started.elapsed().as_secs(),
            "log": self.service.log.name(),
            "epoch": hub.epoch(),
            "seq": hub.head(),
            "connections": self.connections.load(Ordering::Relaxed),
            "tags": tags,
            "protected": protected,
        });
        format!("{status:#}\n")
    }
}

/// Whether `Host` is localhost or an IP literal.
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
