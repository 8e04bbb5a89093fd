//! The files for browsers, embedded in the binary.

/// One file as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub content: &'static [u8],
}

/// What the demo page may do: load its own files, talk to its own server, nothing
/// else; text never becomes markup or code.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The file at `path`; the demo page's only where the demo is on.
#[must_use]
pub fn file(path: &str, demo: bool) -> Option<File> {
    let (content_type, content): (_, &'static [u8]) = match path {
        "/client.js" => (JAVASCRIPT, include_bytes!("../web/client.js")),
        "/" if demo => ("text/html; charset=utf-8", include_bytes!("../web/demo.html")),
        "/demo.css" if demo => ("text/css; charset=utf-8", include_bytes!("../web/demo.css")),
        "/demo.js" if demo => (JAVASCRIPT, include_bytes!("../web/demo.js")),
        "/demo-controls.js" if demo => (JAVASCRIPT, include_bytes!("../web/demo-controls.js")),
        _ => return None,
    };
    Some(File { content_type, content })
}
