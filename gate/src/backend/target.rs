//! The address of the backend, as given on the command line.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::error::Error;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The addresses of a TCP server, in the order to try.
    Tcp(Vec<SocketAddr>),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Reads `9090`, `localhost:9090`, `ADDR:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// [`Error::Usage`] for any other text, and for port 0.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(text, path);
        }
        let addresses = if let Ok(port) = text.parse() {
            local(port)
        } else if let Some(Ok(port)) = text.strip_prefix("localhost:").map(str::parse) {
            local(port)
        } else {
            let address = text.parse().map_err(|_| {
                Error::Usage(format!(
                    "cannot forward to {text:?}: give a port, an IP address with its port, as \
                     127.0.0.1:9090 or [::1]:9090, or unix:PATH"
                ))
            })?;
            vec![address]
        };
        if addresses.iter().any(|address| address.port() == 0) {
            return Err(Error::Usage(format!(
                "cannot forward to {text:?}: no server listens on port 0; give the port of the \
                 server"
            )));
        }
        Ok(Self::Tcp(addresses))
    }
}

fn local(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
    ]
}

fn unix(text: &str, path: &str) -> Result<Target, Error> {
    // The kernel allows at most 107 bytes on Linux, and no zero byte.
    let fits = std::os::unix::net::SocketAddr::from_pathname(path).is_ok();
    if path.is_empty() || !fits {
        return Err(Error::Usage(format!(
            "cannot forward to {text:?}: give the path of a Unix socket, 107 bytes at most"
        )));
    }
    Ok(Target::Unix(path.into()))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(addresses) => {
                let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(", else "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp<const N: usize>(addresses: [&str; N]) -> Target {
        Target::Tcp(addresses.map(|address| address.parse().unwrap()).to_vec())
    }

    #[test]
    fn a_port_alone_means_this_machine() {
        let both = tcp(["127.0.0.1:9090", "[::1]:9090"]);
        assert_eq!(Target::parse("9090").unwrap(), both);
        assert_eq!(Target::parse("localhost:9090").unwrap(), both);
        assert_eq!(both.to_string(), "127.0.0.1:9090, else [::1]:9090");
        assert_eq!(Target::parse("10.0.0.7:80").unwrap(), tcp(["10.0.0.7:80"]));
        assert_eq!(Target::parse("[::1]:80").unwrap(), tcp(["[::1]:80"]));
    }

    #[test]
    fn a_unix_socket_is_a_path() {
        let target = Target::parse("unix:/run/tocsin.sock").unwrap();
        assert_eq!(target, Target::Unix("/run/tocsin.sock".into()));
        assert_eq!(target.to_string(), "unix:/run/tocsin.sock");
        assert_eq!(Target::parse("unix:tocsin.sock").unwrap(), Target::Unix("tocsin.sock".into()));
    }

    #[test]
    fn what_is_no_address_is_said() {
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["", "65536", "-1", "shop:9090", "::1", "127.0.0.1", "0", "unix:", &long] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
