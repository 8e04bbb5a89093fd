//! The directories in which the key may be.

use std::env;
use std::path::PathBuf;

/// The administrator puts a key here.
pub(super) const ADMINISTRATOR: &str = "/etc/tocsin";
/// A server that may write here puts its key here.
pub(super) const RUNTIME: &str = "/run/tocsin";

/// The port of a server whose key file has no port in its name.
pub(super) const USUAL_PORT: u16 = 9090;

/// The name of the key file of the server with this port.
pub(super) fn file_name(port: u16) -> String {
    match port {
        USUAL_PORT => "send.key".into(),
        port => format!("send-{port}.key"),
    }
}

/// The directories in which the server puts its key, the first one that takes it: `/run/tocsin`, or the
/// one that systemd made for it (`RUNTIME_DIRECTORY`, systemd.exec(5)), then that of the user's state.
pub(super) fn of_server() -> Vec<PathBuf> {
    [Some(runtime()), state()].into_iter().flatten().collect()
}

fn runtime() -> PathBuf {
    let given = env::var("RUNTIME_DIRECTORY").unwrap_or_default();
    match given.split(':').next() {
        Some(first) if first.starts_with('/') => first.into(),
        _ => RUNTIME.into(),
    }
}

/// The directory for what an ordinary user's programs keep: `$XDG_STATE_HOME/tocsin`, and
/// `~/.local/state/tocsin` without it (XDG Base Directory Specification). `None` without a home.
pub(super) fn state() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("tocsin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_file_of_its_own() {
        assert_eq!(file_name(9090), "send.key");
        assert_eq!(file_name(9190), "send-9190.key");
    }
}
