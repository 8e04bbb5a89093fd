//! The content of a PEM file: a private key with its certificate chain.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::blocks::{self, Block, BlockKind};
use super::certificate::Certificate;
use super::chain::{self, Chain};
use super::files::{FileContent, PemFiles};
use super::warning::Warning;
use crate::error::{Error, PemFault, PemLocation};
use crate::tls;

/// A private key with its certificate chain, and information about them.
#[derive(Debug, Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// All names and addresses of the certificate.
    pub names: Vec<String>,
    /// The first DNS name, for use in a URL. For the wildcard `*.shop.example`, the host is
    /// `shop.example`.
    pub(crate) host: Option<String>,
    /// The kind of key, such as `P-256`.
    pub(crate) key_kind: String,
    chain: Vec<Link>,
    /// The names of the certificates that are not sent: roots, and certificates of other chains.
    pub left_out: Vec<String>,
    /// The time from which all certificates of the chain are valid.
    pub(crate) begins: SystemTime,
    /// The earliest expiry time in the chain.
    pub(crate) expires: SystemTime,
    /// The warnings that do not depend on the time.
    warnings: Vec<Warning>,
}

/// One certificate of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The first name of the certificate.
    pub name: String,
    /// The name of the certificate's issuer.
    pub issuer: String,
    /// The time when the certificate expires.
    pub expires: SystemTime,
}

/// A fault, and its location if one block is at fault.
type Fault = (Option<PemLocation>, PemFault);

impl Identity {
    /// Reads the file at `path`. The path may be a list of files such as `key.pem,chain.pem`.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Pem`], which name the file and the block.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_contents(&PemFiles::new(path).read()?)
    }

    /// Parses `content` as if it had been read from `file`.
    ///
    /// # Errors
    /// [`Error::Pem`], which names the file and the block.
    pub fn from_bytes(file: &Path, content: &[u8]) -> Result<Self, Error> {
        Self::from_contents(&[FileContent {
            file: file.to_owned(),
            bytes: content.to_vec(),
            world_readable: false,
        }])
    }

    pub(crate) fn from_contents(contents: &[FileContent]) -> Result<Self, Error> {
        let mut all = Vec::new();
        let mut warnings = Vec::new();
        for content in contents {
            let blocks = blocks::split(&content.file, &content.bytes)?;
            if content.world_readable && blocks.iter().any(|block| block.kind == BlockKind::Key) {
                warnings.push(Warning::world_readable(&content.file));
            }
            all.extend(blocks);
        }
        let mut this = Self::assemble(&all).map_err(|(location, fault)| Error::Pem {
            location: location.unwrap_or_else(|| at_fault(&fault, contents, &all)),
            fault,
        })?;
        this.warnings.append(&mut warnings);
        Ok(this)
    }

    /// The key and the chain to send: the leaf, then the issuer of each certificate, without the
    /// root.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// The certificates that are sent, in the order in which they are sent.
    pub fn chain(&self) -> &[Link] {
        &self.chain
    }

    /// All warnings for the operator, as of `now`.
    pub fn warnings(&self, now: SystemTime) -> Vec<Warning> {
        self.warnings.iter().cloned().chain(self.time_warning(now)).collect()
    }

    /// The warning about the time of validity, as of `now`, if there is one.
    pub(crate) fn time_warning(&self, now: SystemTime) -> Option<Warning> {
        let first = self.chain.iter().min_by_key(|link| link.expires)?;
        Warning::about_time(&first.name, self.begins, first.expires, now)
    }

    fn assemble(blocks: &[Block]) -> Result<Self, Fault> {
        let mut certificates: Vec<Certificate> = Vec::new();
        let mut key: Option<(&PemLocation, PrivateKeyDer<'static>)> = None;
        for block in blocks {
            let at = |fault| (Some(block.location.clone()), fault);
            match block.kind {
                BlockKind::Certificate => {
                    let der = CertificateDer::from_pem_slice(&block.pem)
                        .map_err(|_| at(PemFault::Base64("certificate".to_owned())))?;
                    let certificate =
                        Certificate::parse(der).ok_or_else(|| at(PemFault::Certificate))?;
                    if !certificates.contains(&certificate) {
                        certificates.push(certificate);
                    }
                }
                BlockKind::Key => {
                    let der = PrivateKeyDer::from_pem_slice(&block.pem)
                        .map_err(|_| at(PemFault::Base64("private key".to_owned())))?;
                    match &key {
                        None => key = Some((&block.location, der)),
                        // Several files may repeat the same key.
                        Some((_, first)) if *first == der => {}
                        Some((first, _)) => {
                            return Err(at(PemFault::SecondKey(PemLocation::clone(first))));
                        }
                    }
                }
                BlockKind::Parameters => {}
            }
        }
        // If key and certificate are both missing, the error names the key, because people often
        // leave it out as a secret.
        let (location, der) = key.ok_or((None, PemFault::NoKey))?;
        let key = tls::provider()
            .key_provider
            .load_private_key(der)
            .map_err(|_| (Some(location.clone()), PemFault::Key))?;
        Self::of_key(key, certificates).map_err(|fault| (None, fault))
    }

    fn of_key(key: Arc<dyn SigningKey>, certificates: Vec<Certificate>) -> Result<Self, PemFault> {
        let first = certificates.first().ok_or(PemFault::NoCertificate)?;
        let mismatch = PemFault::Mismatch(certificates.len(), first.label());
        let public = key.public_key().ok_or(PemFault::Key)?;
        let chain = chain::order(certificates, public.as_ref()).ok_or(mismatch)?;
        Self::of_chain(key, chain).ok_or(PemFault::NoCertificate)
    }

    /// The identity of `key` and `chain`. `None` if the chain is empty.
    fn of_chain(key: Arc<dyn SigningKey>, chain: Chain) -> Option<Self> {
        let leaf = chain.sent.first()?;
        let incomplete = chain
            .missing()
            .map(|issuer| Warning::Incomplete { leaf: leaf.label(), issuer: issuer.to_owned() });
        let self_signed = leaf.is_self_signed().then(|| Warning::SelfSigned(leaf.label()));
        let nameless = leaf.has_no_alternative_name().then(|| Warning::NoAlternativeName {
            name: leaf.label(),
            wanted: leaf.wanted_alternative_name(),
        });
        let link = |certificate: &Certificate| Link {
            name: certificate.label(),
            issuer: certificate.issuer_name.clone(),
            expires: certificate.expires,
        };
        Some(Self {
            names: leaf.names(),
            host: leaf.host(),
            key_kind: leaf.key_kind.clone(),
            chain: chain.sent.iter().map(link).collect(),
            left_out: chain.left_out.iter().map(Certificate::label).collect(),
            begins: chain.sent.iter().map(|certificate| certificate.begins).max()?,
            expires: chain.sent.iter().map(|certificate| certificate.expires).min()?,
            warnings: [incomplete, self_signed, nameless].into_iter().flatten().collect(),
            certified: Arc::new(CertifiedKey::new(
                chain.sent.into_iter().map(|certificate| certificate.der).collect(),
                key,
            )),
        })
    }
}

/// The file that is probably at fault. If the key fits no certificate, the function returns the
/// file with the key. If key or certificate is missing, it returns the files that have neither.
fn at_fault(fault: &PemFault, contents: &[FileContent], blocks: &[Block]) -> PemLocation {
    let has = |file: &Path, kind| {
        blocks.iter().any(|block| block.kind == kind && block.location.is_in(file))
    };
    let suspect = |file: &Path| match fault {
        PemFault::Mismatch(..) => has(file, BlockKind::Key),
        PemFault::NoKey => !has(file, BlockKind::Certificate),
        PemFault::NoCertificate => !has(file, BlockKind::Key),
        _ => true,
    };
    let files = || contents.iter().map(|content| content.file.as_path());
    let suspects: Vec<&Path> = files().filter(|file| suspect(file)).collect();
    PemLocation::files(if suspects.is_empty() { files().collect() } else { suspects })
}
