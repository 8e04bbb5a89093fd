//! The files for browsers, embedded in the binary.

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

/// What the demo page may do: load its own files, talk to its own server, nothing
/// else; text never becomes markup or code.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// One file as it is served, compressed when it is asked for first.
#[derive(Debug)]
pub(crate) struct StaticFile {
    content_type: &'static str,
    plain: Form,
    gzip: Option<Form>,
}

/// Bytes that may be sent for a file, and the name that they have in caches.
#[derive(Debug)]
struct Form {
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

/// The file at `path`; the demo page's only where the demo is on.
#[must_use]
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
        let gzip = compressed(content).ok().map(Form::new);
        Self { content_type, plain: Form::new(Bytes::from_static(content)), gzip }
    }

    /// The answer to who asks with these headers: the file, or that the asker has it already.
    #[must_use]
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Answer {
        let gzip = self.gzip.as_ref().filter(|_| takes_gzip(asked));
        let form = gzip.unwrap_or(&self.plain);
        let is_known = form.is_known(asked);
        let mut answer = Response::new(Full::default());
        let headers = answer.headers_mut();
        for (name, value) in [
            // A page asks each time whether there is a newer one, which costs no more than this head.
            (header::CACHE_CONTROL, "no-cache"),
            // Without an origin too: a cache must not give that answer to a page of another one.
            (header::VARY, "Accept-Encoding, Origin"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            // A page of another origin may import the client.
            (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(etag) = HeaderValue::from_str(&form.etag) {
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
        *answer.body_mut() = Full::new(form.content.clone());
        answer
    }
}

impl Form {
    fn new(content: Bytes) -> Self {
        // Half of it is unique enough.
        let hash: String =
            Sha256::digest(&content).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { content, etag: format!("\"{hash}\"") }
    }

    /// Whether `If-None-Match` names it. A proxy that has compressed the answer made its tag a
    /// weak one.
    fn is_known(&self, asked: &HeaderMap) -> bool {
        elements(asked, &header::IF_NONE_MATCH)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag)
    }
}

fn compressed(content: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish().map(Bytes::from)
}

/// RFC 9110 section 12.5.3. Who says nothing of it gets the file as it is.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let mut takes_any = false;
    for element in elements(asked, &header::ACCEPT_ENCODING) {
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

/// The elements of a header that is a list.
fn elements<'a>(asked: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = asked.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
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
            let mut asked = HeaderMap::new();
            for value in values {
                asked.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(takes_gzip(&asked), takes, "{values:?}");
        }
    }
}
