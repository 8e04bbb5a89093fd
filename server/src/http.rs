//! The public HTTP side: routes, the upgrade to WebSocket, and the client's files.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::answer::{Answer, text};
use shared::linger::Lingering;
use shared::shutdown::Shutdown;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::limits;
use crate::messages;
use crate::origin::Origins;
use crate::publish::Service;
use crate::socket::Sockets;
use crate::web;

/// What every HTTP connection of a server needs.
#[derive(Debug)]
pub struct Site {
    /// Registry, log, keys.
    pub service: Arc<Service>,
    /// Where upgraded connections go.
    pub sockets: Arc<Sockets>,
    /// Room for the bodies of requests, in bytes.
    pub bodies: Semaphore,
    /// Which pages may use this server.
    pub origins: Origins,
    /// Whether the demo page is served at `/`.
    pub demo: bool,
}

impl Site {
    /// Serves one connection until it ends or becomes a WebSocket. `held` is dropped when the
    /// connection ends, whatever it has become.
    pub async fn serve<H: Send + Sync + 'static>(
        self: Arc<Self>,
        stream: TcpStream,
        held: H,
        shutdown: Shutdown,
    ) {
        let held = Arc::new(held);
        let stopping = shutdown.clone();
        let service = hyper::service::service_fn(move |request| {
            let site = Arc::clone(&self);
            let (held, shutdown) = (Arc::clone(&held), shutdown.clone());
            async move { Ok::<_, Infallible>(site.answer(request, held, shutdown).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // A sender may leave right after its request: that cancels nothing.
            .half_close(true)
            .header_read_timeout(limits::HEADERS)
            .max_buf_size(limits::HEAD)
            .serve_connection(TokioIo::new(Lingering::new(stream)), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "HTTP connection ended");
        }
    }

    async fn answer<H: Send + Sync + 'static>(
        &self,
        request: Request<Incoming>,
        held: Arc<H>,
        shutdown: Shutdown,
    ) -> Answer {
        let origin = match self.origins.check(request.headers()) {
            Ok(origin) => origin,
            Err(_foreign) => {
                return text(
                    StatusCode::FORBIDDEN,
                    "This page may not use this server. Its owner can allow it: --origin URL\n",
                );
            }
        };
        let path = request.uri().path();
        let mut answer = match (request.method(), path) {
            (&Method::OPTIONS, "/ws" | "/messages" | "/client.js" | "/") => preflight(),
            (&Method::GET, "/ws") => self.upgrade(request, held, shutdown),
            (&Method::GET, "/") if is_upgrade(request.headers()) => {
                self.upgrade(request, held, shutdown)
            }
            (&Method::POST, "/messages") => {
                messages::post(&self.service, &self.bodies, request).await
            }
            (_, "/messages") => not_allowed("POST, OPTIONS"),
            (_, "/ws") => not_allowed("GET, OPTIONS"),
            (&Method::GET | &Method::HEAD, path) => match web::file(path, self.demo) {
                Some(file) => served(&file),
                None => text(
                    StatusCode::NOT_FOUND,
                    "Tocsin: WebSocket at /ws, messages by POST to /messages, client at /client.js\n",
                ),
            },
            (_, path) if web::file(path, self.demo).is_some() => not_allowed("GET, HEAD, OPTIONS"),
            _ => text(StatusCode::NOT_FOUND, "Nothing here.\n"),
        };
        if let Some(origin) = origin {
            let headers = answer.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        }
        answer
    }

    /// RFC 6455 section 4.2.
    fn upgrade<H: Send + Sync + 'static>(
        &self,
        mut request: Request<Incoming>,
        held: Arc<H>,
        shutdown: Shutdown,
    ) -> Answer {
        let headers = request.headers();
        if !is_upgrade(headers) {
            let mut answer = text(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket address.\n");
            answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            return answer;
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            let mut answer =
                text(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 is needed.\n");
            let version = HeaderValue::from_static("13");
            answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
            return answer;
        }
        let accept = match headers.get(header::SEC_WEBSOCKET_KEY) {
            Some(key) if key.len() == 24 => derive_accept_key(key.as_bytes()),
            _ => return text(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or wrong.\n"),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let sockets = Arc::clone(&self.sockets);
        let tasks = shutdown.clone();
        tasks.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<Lingering>>() else { return };
            let stream = parts.io.into_inner().into_inner();
            let read_ahead = parts.read_buf;
            // A task of its own, because this one keeps the memory of the handshake.
            let tasks = shutdown.clone();
            tasks.spawn(async move {
                sockets.serve(stream, read_ahead).await;
                drop(held);
            });
        });
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::from_str(&accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        answer
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let has =
        |name: HeaderName, wanted: &str| {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
            })
        };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

fn preflight() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::ALLOW, "GET, HEAD, POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn served(file: &web::File) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(file.content)));
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, file.content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, web::CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        // A page of another origin may import the client.
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Not with this method.\n");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}
