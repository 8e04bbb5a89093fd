//! The files for browsers, which are embedded in the binary.

use std::io::{self, Write as _};
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use shared::answer::Answer;

use crate::http::elements;

/// The content security policy. The demo page may only load its own files and connect to its own
/// server. Text never becomes markup or code.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file for browsers. It is compressed at the first request.
#[derive(Debug)]
pub(crate) struct StaticFile {
    content_type: &'static str,
    plain: Representation,
    gzip: Option<Representation>,
}

/// A plain or compressed content of a file, and its entity tag.
#[derive(Debug)]
struct Representation {
    content: Bytes,
    etag: String,
}

macro_rules! file {
    ($content_type:expr, $path:literal) => {{
        static FILE: LazyLock<StaticFile> =
            LazyLock::new(|| StaticFile::new($content_type, include_bytes!($path)));
        &*FILE
    }};
}

/// The file at `path`. The files of the demo page exist only if the demo is on.
pub(crate) fn file(path: &str, demo: bool) -> Option<&'static StaticFile> {
    Some(match path {
        "/client.js" => file!(JAVASCRIPT, "../../web/client.js"),
        "/" if demo => file!("text/html; charset=utf-8", "../../web/demo.html"),
        "/demo.css" if demo => file!("text/css; charset=utf-8", "../../web/demo.css"),
        "/demo.js" if demo => file!(JAVASCRIPT, "../../web/demo.js"),
        "/demo-controls.js" if demo => file!(JAVASCRIPT, "../../web/demo-controls.js"),
        _ => return None,
    })
}

impl StaticFile {
    fn new(content_type: &'static str, content: &'static [u8]) -> Self {
        let gzip = compressed(content).ok().map(Representation::new);
        Self { content_type, plain: Representation::new(Bytes::from_static(content)), gzip }
    }

    /// Answers with the file, or with 304 if the request shows that the client already has it.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Answer {
        let gzip = self.gzip.as_ref().filter(|_| takes_gzip(request));
        let representation = gzip.unwrap_or(&self.plain);
        let is_known = representation.is_known(request);
        let mut answer = Response::new(Full::default());
        let headers = answer.headers_mut();
        for (name, value) in [
            // The browser asks each time whether the file has changed. If not, the answer is a
            // short 304.
            (header::CACHE_CONTROL, "no-cache"),
            // This header is also sent if the request has no `Origin`, because a cache must not
            // give this answer to a page of another origin.
            (header::VARY, "Accept-Encoding, Origin"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            // Pages of other origins may import the client.
            (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(etag) = HeaderValue::from_str(&representation.etag) {
            headers.insert(header::ETAG, etag);
        }
        if is_known {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if gzip.is_some() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        *answer.body_mut() = Full::new(representation.content.clone());
        answer
    }
}

impl Representation {
    fn new(content: Bytes) -> Self {
        // 16 of the 32 bytes of the hash are unique enough.
        let hash: String =
            Sha256::digest(&content).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { content, etag: format!("\"{hash}\"") }
    }

    /// Whether `If-None-Match` contains the entity tag. The tag is weak (`W/`) if a proxy has
    /// compressed the answer.
    fn is_known(&self, request: &HeaderMap) -> bool {
        elements(request, &header::IF_NONE_MATCH)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag)
    }
}

fn compressed(content: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish().map(Bytes::from)
}

/// Whether `Accept-Encoding` allows gzip (RFC 9110 section 12.5.3). Without the header the answer
/// is no.
fn takes_gzip(request: &HeaderMap) -> bool {
    let mut takes_any = false;
    for element in elements(request, &header::ACCEPT_ENCODING) {
        let (coding, weight) = element.split_once(';').unwrap_or((element, "q=1"));
        let weight = weight.trim().strip_prefix(['q', 'Q']).map(str::trim_start);
        let weight = weight.and_then(|weight| weight.strip_prefix('=')?.trim().parse().ok());
        let takes = weight.is_some_and(|weight: f32| weight > 0.0);
        match coding.trim() {
            "*" => takes_any = takes,
            coding if coding.eq_ignore_ascii_case("gzip") => return takes,
            _ => {}
        }
    }
    takes_any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_gzip() {
        for (values, takes) in [
            (&["gzip"][..], true),
            (&["gzip, deflate, br, zstd"], true),
            (&["br;q=1.0, GZIP;q=0.8, *;q=0.1"], true),
            (&["deflate", "gzip"], true),
            (&["*"], true),
            (&["*;q=0, gzip ; q=0.001"], true),
            (&["gzip ;Q = 0.5"], true),
            (&[], false),
            (&[""], false),
            (&["identity"], false),
            (&["br, deflate"], false),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, *"], false),
            (&["gzip;q=zero"], false),
            (&["gzipped"], false),
            (&["*;q=0"], false),
        ] {
            let mut request = HeaderMap::new();
            for value in values {
                request.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(takes_gzip(&request), takes, "{values:?}");
        }
    }
}
