//! The programs that Debian offers for the same job, configured alike.
//!
//! One worker per core where a number can be given, as the gate has; the same certificate file;
//! tickets, buffers and everything else as each one's authors chose. The client decides version,
//! suite and group.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::ValueEnum;
use rustix::process::geteuid;

use crate::cli::gate::Group;
use crate::machine;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    None,
    Hitch,
    Haproxy,
    Nginx,
    Stunnel,
    #[value(name = "httpgate")]
    HttpGate,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name().to_lowercase())
    }
}

impl Peer {
    pub(crate) const ALL: [Self; 5] =
        [Self::Hitch, Self::Haproxy, Self::Nginx, Self::Stunnel, Self::HttpGate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hitch => "hitch",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Stunnel => "stunnel",
            Self::HttpGate => "httpGate",
        }
    }

    /// The Debian package, which names the version too.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Hitch => "hitch",
            Self::Haproxy => "haproxy",
            Self::Nginx => "libnginx-mod-stream",
            Self::Stunnel => "stunnel4",
            Self::HttpGate => "picolisp",
        }
    }

    /// Whether it always goes into the background.
    pub(crate) fn is_daemon(self) -> bool {
        self == Self::HttpGate
    }

    /// The group it insists on: httpGate sets the curve P-256, and OpenSSL then knows no other.
    pub(crate) fn only_group(self) -> Option<Group> {
        (self == Self::HttpGate).then_some(Group::P256)
    }

    /// Where it is installed.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let places: &[&str] = match self {
            Self::None => &[],
            Self::Hitch => &["/usr/sbin/hitch", "/usr/bin/hitch"],
            Self::Haproxy => &["/usr/sbin/haproxy", "/usr/bin/haproxy"],
            Self::Nginx => &["/usr/sbin/nginx", "/usr/bin/nginx"],
            Self::Stunnel => &["/usr/bin/stunnel4", "/usr/sbin/stunnel4"],
            Self::HttpGate => &["/usr/bin/httpGate", "/usr/lib/picolisp/bin/httpGate"],
        };
        let found = places.iter().map(PathBuf::from).find(|path| path.is_file())?;
        (self != Self::Nginx || Path::new(NGINX_STREAM).is_file()).then_some(found)
    }

    /// How it is started: in the foreground where it can, everything that it writes in
    /// `directory`.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub(crate) fn command(
        self,
        path: &Path,
        directory: &Path,
        port: u16,
        backend: SocketAddr,
        pem: &Path,
    ) -> anyhow::Result<Command> {
        let workers = machine::cores();
        let mut command = Command::new(path);
        command.current_dir(directory);
        let (directory, pem) = (directory.display(), pem.display());
        let config = match self {
            Self::None => None,
            Self::Hitch => {
                command
                    .arg(format!("--frontend=[127.0.0.1]:{port}"))
                    .arg(format!("--backend=[{}]:{}", backend.ip(), backend.port()))
                    .arg(format!("--workers={workers}"))
                    .args(["--tls-protos=TLSv1.3", "--backlog=4096", "--ocsp-dir="])
                    .arg(pem.to_string());
                // It refuses to work as root; this is the user that its package makes.
                if geteuid().is_root() {
                    command.arg("--user=_hitch");
                }
                None
            }
            Self::Haproxy => Some(format!(
                "global\n nbthread {workers}\n maxconn 9000\n\
                 defaults\n mode tcp\n timeout connect 10s\n timeout client 10m\n \
                 timeout server 10m\n\
                 frontend tls\n bind 127.0.0.1:{port} backlog 4096 ssl crt {pem} \
                 ssl-min-ver TLSv1.3\n default_backend plain\n\
                 backend plain\n server echo {backend}\n"
            )),
            Self::Nginx => Some(format!(
                "load_module {NGINX_STREAM};\ndaemon off;\nworker_processes {workers};\n\
                 pid {directory}/nginx.pid;\nlock_file {directory}/nginx.lock;\n\
                 error_log stderr warn;\nevents {{ worker_connections 20000; }}\n\
                 stream {{ server {{ listen 127.0.0.1:{port} ssl backlog=4096;\n\
                 ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.3;\n\
                 proxy_pass {backend}; }} }}\n"
            )),
            Self::Stunnel => Some(format!(
                "foreground = yes\npid =\ndebug = err\nsslVersionMin = TLSv1.3\n\
                 socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
                 [echo]\naccept = 127.0.0.1:{port}\nconnect = {backend}\ncert = {pem}\n"
            )),
            Self::HttpGate => {
                command.arg(port.to_string()).arg(backend.port().to_string()).arg(pem.to_string());
                None
            }
        };
        if let Some(text) = config {
            let mut name = self.name().to_owned();
            write!(name, ".conf")?;
            let file = Path::new(&directory.to_string()).join(name);
            fs::write(&file, text).context("cannot write a configuration")?;
            match self {
                Self::Haproxy => command.arg("-db").arg("-f").arg(file),
                Self::Nginx => command
                    .arg("-e")
                    .arg("stderr")
                    .arg("-p")
                    .arg(directory.to_string())
                    .arg("-c")
                    .arg(file),
                _ => command.arg(file),
            };
        }
        Ok(command)
    }
}

/// Debian's nginx loads it from here.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
