//! The option `--check`: describes the configuration of the gate.

use std::fmt::Write as _;
use std::time::SystemTime;

use crate::backend::Backend;
use crate::config::Config;
use crate::error::Error;
use crate::gate::Served;
use crate::pem::{Identity, date, days};
use crate::tls::Resumption;

/// Describes a gate with the configuration `config`, in one line for each setting.
///
/// # Errors
/// Any error that would prevent the start, except an error in opening a port.
pub fn check(config: &Config) -> Result<String, Error> {
    config.separate_ports()?;
    Served::new(config.identity.clone(), &Resumption::new()?)?;
    let backend = Backend::new(config.backend.clone(), config.proxy_protocol, config.backend_retry);
    let mut text = String::new();
    line(&mut text, "listen", &config.listen.to_string());
    line(&mut text, "backend", &backend.to_string());
    if let Some(admin) = config.admin {
        line(&mut text, "admin", &admin.to_string());
    }
    identity(&mut text, &config.identity, SystemTime::now());
    Ok(text)
}

fn identity(text: &mut String, identity: &Identity, now: SystemTime) {
    line(text, "names", &identity.names.join(", "));
    let left = match identity.expires.duration_since(now) {
        Ok(left) => format!("{} left", days(left)),
        Err(_) => "expired".to_owned(),
    };
    let (begins, expires) = (date(identity.begins), date(identity.expires));
    line(text, "valid", &format!("{begins} to {expires}, {left}"));
    line(text, "key", &identity.key_kind);
    for (link, number) in identity.chain().iter().zip(1..) {
        line(text, "chain", &format!("{number}. {}, issued by {}", link.name, link.issuer));
    }
    for name in &identity.left_out {
        line(text, "not sent", name);
    }
    for warning in identity.warnings(now) {
        line(text, "warning", &warning.to_string());
    }
}

fn line(text: &mut String, what: &str, value: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{what:10}{value}");
}
