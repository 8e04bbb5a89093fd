//! The public HTTP server: routes, the upgrade to a WebSocket, and static files.

pub(crate) mod admin;
mod batch;
mod body;
pub(crate) mod memory_budget;
mod metrics_text;
pub(crate) mod origin;
pub(crate) mod publish_api;
pub(crate) mod replies;
pub(crate) mod static_files;
mod traces;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use shared::answer::{Answer, json, text};
use shared::deadline::within;
use shared::linger::{LingerSocket, Lingering};
use shared::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::access::bucket::TooOften;
use crate::access::visitor::Visitor;
use crate::conn::outbox::Wire;
use crate::http::memory_budget::MemoryBudget;
use crate::http::origin::Origins;
use crate::http::replies::{no_capacity, retry_after, with};
use crate::limits;
use crate::protocol::{ErrorCode, Reference, Refusal, Reply};
use crate::publish::Service;
use crate::ws::socket::Sockets;

/// The data that all HTTP connections of a server share.
#[derive(Debug)]
pub(crate) struct Site {
    pub service: Arc<Service>,
    pub sockets: Arc<Sockets>,
    /// The memory for request bodies. It is returned when the request is answered.
    pub bodies: MemoryBudget,
    /// The memory for inboxes in answers. It is returned when the answer is written.
    pub answers: MemoryBudget,
    pub origins: Origins,
    /// Whether the demo page is served at `/`.
    pub demo: bool,
    /// A function that is called with the first bytes of each connection.
    pub inspect_first: fn(&[u8]),
}

/// The time-out for the first request of a connection that was accepted right before the stop.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// How long a connection may stay open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Long,
    /// Until one request is answered. The request must not be an upgrade to a WebSocket.
    Brief,
}

/// The socket of a client.
pub(crate) trait Stream:
    LingerSocket + AsyncRead + AsyncWrite + Into<Wire> + Send + Unpin + 'static
{
}

impl<S: LingerSocket + AsyncRead + AsyncWrite + Into<Wire> + Send + Unpin + 'static> Stream for S {}

/// The data that all requests of one connection share.
#[derive(Debug)]
struct Caller<H> {
    visitor: Mutex<Visitor>,
    /// A value that is dropped when the connection ends, even if it became a WebSocket before.
    held: Arc<H>,
    lifetime: Lifetime,
    /// The number of the thread that serves the connection. Its shard has the same number.
    thread: usize,
    /// Notified when a request arrives.
    requested: Notify,
    shutdown: Shutdown,
}

impl Site {
    /// Serves one connection on this `thread` until it ends or becomes a WebSocket. `address` is
    /// the address of the client, if it is known. `held` is dropped when the connection ends, even
    /// if it became a WebSocket before.
    pub(crate) async fn serve<S: Stream, H: Send + Sync + 'static>(
        self: Arc<Self>,
        stream: S,
        address: Option<IpAddr>,
        lifetime: Lifetime,
        held: H,
        thread: usize,
        shutdown: Shutdown,
    ) {
        let stopping = shutdown.clone();
        let stream = Lingering::new(stream).noticing(self.inspect_first);
        let caller = Arc::new(Caller {
            visitor: Mutex::new(Visitor::new(address)),
            held: Arc::new(held),
            lifetime,
            thread,
            requested: Notify::new(),
            shutdown,
        });
        let (first, site) = (Arc::clone(&caller), Arc::clone(&self));
        let service = hyper::service::service_fn(move |request| {
            caller.requested.notify_one();
            let (site, caller) = (Arc::clone(&self), Arc::clone(&caller));
            async move { Ok::<_, Infallible>(site.answer::<S, H>(request, caller).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // A sender may close its side right after the request. The request is answered
            // nevertheless.
            .half_close(true)
            .keep_alive(lifetime == Lifetime::Long)
            .header_read_timeout(match lifetime {
                Lifetime::Long => limits::HEADERS,
                Lifetime::Brief => limits::BRIEF_HEADERS,
            })
            .max_buf_size(limits::HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.stopping() => tokio::select! {
                biased;
                // hyper would at once close a connection that has had no request. But the first
                // request may be on its way.
                _either = within("the first request", FIRST_REQUEST, first.requested.notified()) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                ended = connection.as_mut() => ended,
            },
        };
        if let Err(error) = ended {
            if error.is_parse_too_large() {
                site.service.counters.large_heads.inc();
                traces::large_head(address);
            }
            tracing::debug!(%error, "the HTTP connection failed");
        }
    }

    async fn answer<S: Stream, H: Send + Sync + 'static>(
        &self,
        request: Request<Incoming>,
        caller: Arc<Caller<H>>,
    ) -> Answer {
        let Ok(origin) = self.origins.check(request.headers()) else {
            self.service.counters.foreign_origins.inc();
            traces::foreign_origin(request.headers(), caller.visitor.lock().address);
            return text(
                StatusCode::FORBIDDEN,
                "Pages of this origin may not use this server. Allow them with --origin URL\n",
            );
        };
        let path = request.uri().path();
        let mut answer = match (request.method(), path) {
            (&Method::OPTIONS, "/ws" | "/messages" | "/client.js" | "/") => preflight(),
            (&Method::GET, "/ws") => self.upgrade::<S, H>(request, caller),
            (&Method::GET, "/") if is_upgrade(request.headers()) => {
                self.upgrade::<S, H>(request, caller)
            }
            (&Method::POST, "/messages") => publish_api::post(self, &caller.visitor, request).await,
            (_, "/messages") => not_allowed("POST, OPTIONS"),
            (_, "/ws") => not_allowed("GET, OPTIONS"),
            (&Method::GET | &Method::HEAD, path) => match static_files::file(path, self.demo) {
                Some(file) => file.answer(request.headers()),
                None => text(
                    StatusCode::NOT_FOUND,
                    "Tocsin: WebSocket at /ws, messages by POST to /messages, client at /client.js\n",
                ),
            },
            (_, path) if static_files::file(path, self.demo).is_some() => {
                not_allowed("GET, HEAD, OPTIONS")
            }
            _ => text(StatusCode::NOT_FOUND, "Not found.\n"),
        };
        if let Some(origin) = origin {
            let headers = answer.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.entry(header::VARY).or_insert(HeaderValue::from_static("Origin"));
        }
        answer
    }

    /// Answers a request to become a WebSocket (RFC 6455 section 4.2).
    fn upgrade<S: Stream, H: Send + Sync + 'static>(
        &self,
        mut request: Request<Incoming>,
        caller: Arc<Caller<H>>,
    ) -> Answer {
        let headers = request.headers();
        if request.version() == Version::HTTP_10 {
            self.service.counters.old_http.inc();
            traces::old_http(caller.visitor.lock().address);
        }
        if !is_upgrade(headers) {
            let answer =
                text(StatusCode::UPGRADE_REQUIRED, "Connect to this address with a WebSocket.\n");
            return with(answer, header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            let answer =
                text(StatusCode::UPGRADE_REQUIRED, "The server needs WebSocket version 13.\n");
            return with(answer, header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        let accept = match headers.get(header::SEC_WEBSOCKET_KEY) {
            Some(key) if key.len() == 24 => derive_accept_key(key.as_bytes()),
            _ => return text(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or wrong.\n"),
        };
        if caller.lifetime == Lifetime::Brief {
            self.service.counters.rejected.inc();
            return no_capacity();
        }
        let address = caller.visitor.lock().address;
        let limits = &self.service.policy.load().limits;
        if let Err(often) = self.service.rates.connect(limits, address) {
            return self.too_often(often);
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let sockets = Arc::clone(&self.sockets);
        let (tasks, thread) = (caller.shutdown.clone(), caller.thread);
        tasks.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<Lingering<S>>>() else { return };
            let stream = parts.io.into_inner().into_inner();
            let read_ahead = parts.read_buf;
            // The WebSocket gets a new task, because this task keeps the memory of the handshake.
            let held = Arc::clone(&caller.held);
            caller.shutdown.spawn(async move {
                sockets.serve(stream, read_ahead, Visitor::new(address), thread).await;
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

    /// The answer to an address that opens too many WebSockets.
    fn too_often(&self, TooOften { retry_in }: TooOften) -> Answer {
        self.service.counters.refused(ErrorCode::RateLimited.as_str());
        let refusal = Refusal::rate_limited("too many new connections", retry_in);
        let body = Reply::Refused(refusal).to_json(&Reference::default());
        retry_after(json(StatusCode::TOO_MANY_REQUESTS, body), retry_in)
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, wanted| elements(headers, name).any(|one| one.eq_ignore_ascii_case(wanted));
    has(&header::UPGRADE, "websocket") && has(&header::CONNECTION, "upgrade")
}

/// The elements of a header that contains a list.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
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

fn not_allowed(allow: &'static str) -> Answer {
    let answer = text(StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed.\n");
    with(answer, header::ALLOW, HeaderValue::from_static(allow))
}
