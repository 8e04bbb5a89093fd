//! The bytes of a connection, with TLS or without.
//!
//! The socket may be blocking or not. A read that would block fails with that kind of error; bytes
//! that cannot be written yet wait for [`Transport::flush`].

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::Result;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

/// How to begin TLS, and with whom.
#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

#[derive(Debug)]
pub(crate) struct Transport {
    stream: TcpStream,
    session: Option<Box<ClientConnection>>,
    /// Bytes for a socket whose buffer is full. With TLS they wait in the session.
    unsent: Vec<u8>,
}

impl Transport {
    /// # Errors
    /// When TLS cannot begin.
    pub(crate) fn new(stream: TcpStream, tls: Option<&TlsSettings>) -> Result<Self> {
        let mut session = None;
        if let Some(TlsSettings { config, name }) = tls {
            let mut new = ClientConnection::new(Arc::clone(config), name.clone())?;
            new.set_buffer_limit(None);
            session = Some(Box::new(new));
        }
        Ok(Self { stream, session, unsent: Vec::new() })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// With TLS, bytes may be ready to read that the socket has delivered already.
    pub(crate) fn is_tls(&self) -> bool {
        self.session.is_some()
    }

    /// Reads the bytes that have arrived; 0 is the end of the stream.
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

    /// Writes, and keeps the bytes that the socket does not take yet.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.session {
            None => self.unsent.extend_from_slice(bytes),
            Some(session) => session.writer().write_all(bytes)?,
        }
        self.flush()
    }

    /// Writes as many of the kept bytes as the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            return send_records(session, &mut self.stream);
        }
        let mut written = 0;
        while written < self.unsent.len() {
            match self.stream.write(&self.unsent[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if written == self.unsent.len() {
            // An idle listener takes no memory for a buffer.
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..written);
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
