//! HTTP answers with a complete body.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

/// An answer with a complete body.
pub type Answer = Response<Full<Bytes>>;

/// A JSON answer, for programs.
#[must_use]
pub fn json(status: StatusCode, text: String) -> Answer {
    with_type(status, text.into(), "application/json")
}

/// A plain text answer, for people.
#[must_use]
pub fn text(status: StatusCode, text: &'static str) -> Answer {
    with_type(status, Bytes::from_static(text.as_bytes()), "text/plain; charset=utf-8")
}

/// An answer of any content type, which caches must not store.
#[must_use]
pub fn with_type(status: StatusCode, body: Bytes, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
