//! The PEM file: one private key, its certificate, and the certificates between that and a root,
//! in any order.

mod blocks;
mod chain;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, PemFault, Place};
use crate::tls;
use blocks::{Block, Kind};
use chain::Certificate;

/// A key and a dozen certificates are some 30 KiB; more than this is some other file.
const LARGEST: u64 = 1024 * 1024;

/// The files that hold key and certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    files: Vec<PathBuf>,
}

impl Source {
    /// One file, or several as in `key.pem,chain.pem` unless a file has that whole name.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let files = match path.to_str() {
            Some(list) if list.contains(',') && !path.exists() => {
                list.split(',').filter(|part| !part.is_empty()).map(PathBuf::from).collect()
            }
            _ => vec![path.to_owned()],
        };
        Self { files }
    }

    /// Opens the files afresh and makes of them what can be served.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Pem`], naming file and block.
    pub fn load(&self) -> Result<Identity, Error> {
        let mut blocks = Vec::new();
        for file in &self.files {
            blocks.extend(blocks::split(file, &read(file)?)?);
        }
        let whole = Place::file(self.files.first().map_or(Path::new(""), PathBuf::as_path));
        Identity::assemble(&blocks)
            .map_err(|(place, fault)| Error::Pem { place: place.unwrap_or(whole), fault })
    }
}

/// A private key with its certificate chain, and what the certificate is for.
#[derive(Debug, Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
    host: Option<String>,
}

/// A fault, and the block it is in if it is in one.
type Fault = (Option<Place>, PemFault);

impl Identity {
    /// The key and the chain to send: leaf first, then each one's issuer, without a root.
    #[must_use]
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Every name and address that the certificate is for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The first DNS name, to put into an address; a wildcard's domain stands for it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    fn assemble(blocks: &[Block]) -> Result<Self, Fault> {
        let mut certificates: Vec<Certificate> = Vec::new();
        let mut key: Option<(&Place, PrivateKeyDer<'static>)> = None;
        for block in blocks {
            let at = |fault| (Some(block.place.clone()), fault);
            match block.kind {
                Kind::Certificate => {
                    let der = CertificateDer::from_pem_slice(&block.pem)
                        .map_err(|_| at(PemFault::Base64("certificate".to_owned())))?;
                    let certificate =
                        Certificate::parse(der).ok_or_else(|| at(PemFault::Certificate))?;
                    if !certificates.contains(&certificate) {
                        certificates.push(certificate);
                    }
                }
                Kind::Key => {
                    let der = PrivateKeyDer::from_pem_slice(&block.pem)
                        .map_err(|_| at(PemFault::Base64("private key".to_owned())))?;
                    match &key {
                        None => key = Some((&block.place, der)),
                        // A list of files may well repeat the key.
                        Some((_, first)) if *first == der => {}
                        Some((first, _)) => {
                            return Err(at(PemFault::SecondKey(Place::clone(first))));
                        }
                    }
                }
                Kind::Parameters => {}
            }
        }
        // Both missing is a file that holds neither; the key is named first as what is secret
        // is what people leave out.
        let (place, der) = key.ok_or((None, PemFault::NoKey))?;
        let key = tls::provider()
            .key_provider
            .load_private_key(der)
            .map_err(|_| (Some(place.clone()), PemFault::Key))?;
        Self::of_key(key, certificates).map_err(|fault| (None, fault))
    }

    fn of_key(key: Arc<dyn SigningKey>, certificates: Vec<Certificate>) -> Result<Self, PemFault> {
        let first = certificates.first().ok_or(PemFault::NoCertificate)?;
        let mismatch = PemFault::Mismatch(certificates.len(), first.label());
        let public = key.public_key().ok_or(PemFault::Key)?;
        let chain = chain::order(certificates, public.as_ref()).ok_or(mismatch)?;
        let leaf = chain.first().ok_or(PemFault::NoCertificate)?;
        let (names, host) = (leaf.names(), leaf.host());
        let chain = chain.into_iter().map(Certificate::into_der).collect();
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, key)), names, host })
    }
}

/// The whole file. Opened and read, never mapped: it may be replaced meanwhile.
fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    let opened = File::open(file).map_err(failed)?;
    if opened.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let mut content = Vec::new();
    opened.take(LARGEST + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > LARGEST {
        return Err(Error::Pem { place: Place::file(file), fault: PemFault::TooLarge(LARGEST) });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_separates_files_unless_it_belongs_to_a_name() {
        let list = Source::new(Path::new("key.pem,chain.pem"));
        assert_eq!(list.files, [PathBuf::from("key.pem"), PathBuf::from("chain.pem")]);

        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a,b.pem");
        std::fs::write(&odd, "").unwrap();
        assert_eq!(Source::new(&odd).files, [odd]);
    }
}
