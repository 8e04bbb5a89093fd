//! A connection's bytes, with TLS or without.
//!
//! Works alike on sockets that block and on those that do not. A read that would block is an error
//! of that kind; what a write cannot get rid of waits for [`Wire::flush`].

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
    /// Bytes for a socket whose buffer is full; those of TLS wait in its session.
    waiting: Vec<u8>,
}

impl Wire {
    /// # Errors
    /// When TLS cannot begin.
    pub(crate) fn new(stream: TcpStream, secrecy: Option<&Secrecy>) -> anyhow::Result<Self> {
        let session = match secrecy {
            None => None,
            Some(Secrecy { config, name }) => {
                let mut session = ClientConnection::new(Arc::clone(config), name.clone())?;
                session.set_buffer_limit(None);
                Some(Box::new(session))
            }
        };
        Ok(Self { stream, session, waiting: Vec::new() })
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
            send_records(session, &mut self.stream)?;
        }
    }

    /// Writes, and keeps what cannot be written now.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.session {
            None => self.waiting.extend_from_slice(bytes),
            Some(session) => session.writer().write_all(bytes)?,
        }
        self.flush()
    }

    /// Writes what was kept, as far as that is possible now.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            return send_records(session, &mut self.stream);
        }
        let mut written = 0;
        while written < self.waiting.len() {
            match self.stream.write(&self.waiting[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if written == self.waiting.len() {
            // An idle listener keeps nothing.
            self.waiting = Vec::new();
        } else {
            self.waiting.drain(..written);
        }
        Ok(())
    }
}

fn send_records(session: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
