//! A connection's bytes, with TLS or without.
//!
//! Works alike on sockets that block and on those that do not: what would block is an error of
//! that kind.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// What both sides need to know to speak TLS.
#[derive(Debug, Clone)]
pub(crate) struct Secrecy {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Wire {
    /// # Errors
    /// When TLS cannot begin.
    pub(crate) fn new(stream: TcpStream, secrecy: Option<&Secrecy>) -> anyhow::Result<Self> {
        let session = match secrecy {
            None => None,
            Some(Secrecy { config, name }) => {
                Some(Box::new(ClientConnection::new(Arc::clone(config), name.clone())?))
            }
        };
        Ok(Self { stream, session })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether bytes may wait here that the socket has given already.
    pub(crate) fn is_secret(&self) -> bool {
        self.session.is_some()
    }

    /// Reads what is there; 0 is the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.stream.read(buffer) };
        loop {
            match session.reader().read(buffer) {
                Err(nothing) if nothing.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            session.read_tls(&mut self.stream)?;
            session.process_new_packets().map_err(io::Error::other)?;
            while session.wants_write() {
                session.write_tls(&mut self.stream)?;
            }
        }
    }

    /// Writes all of it. Before the TLS handshake is over it waits for that, in memory.
    ///
    /// # Errors
    /// Also when the socket's buffer is full, which small requests do not fill.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.session else { return self.stream.write_all(bytes) };
        session.writer().write_all(bytes)?;
        while session.wants_write() {
            session.write_tls(&mut self.stream)?;
        }
        Ok(())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
