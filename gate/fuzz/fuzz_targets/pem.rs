//! Checks that every PEM file gives either a certificate to serve or an error of one line.

#![no_main]

use std::path::Path;
use std::time::SystemTime;

use gate::Identity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    match Identity::from_bytes(Path::new("cert.pem"), content) {
        Ok(identity) => {
            let sent = identity.certified().cert.len();
            assert!(sent > 0 && sent == identity.chain().len());
            let shown = identity.names.iter().chain(&identity.left_out);
            shown.for_each(|name| assert_one_line(name));
            for warning in identity.warnings(SystemTime::now()) {
                assert_one_line(&warning.to_string());
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("cert.pem"), "{text}");
            assert_one_line(&text);
        }
    }
});

/// Asserts that a message has one line and no control characters, because it goes to terminals and
/// logs.
fn assert_one_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}
