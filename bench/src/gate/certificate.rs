//! A certificate chain like that of an authority, made for each run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rcgen::{KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;

/// The name in the certificate.
pub(crate) const HOST: &str = "bench.example";

/// The certificates that every program serves: leaf, intermediate and key in one file, all P-256.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) pem: PathBuf,
    /// The certificate that the client trusts.
    pub(crate) root: CertificateDer<'static>,
}

impl Chain {
    /// Writes `cert.pem` into `directory`.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let root = CertifiedIssuer::self_signed(authority("Bench Root"), key()?)?;
        let intermediate = CertifiedIssuer::signed_by(authority("Bench Issuing"), key()?, &root)?;
        let leaf_key = key()?;
        let leaf =
            CertificateParams::new([HOST.to_owned()])?.signed_by(&leaf_key, &intermediate)?;

        let pem = directory.join("cert.pem");
        let text = [leaf.pem(), intermediate.pem(), leaf_key.serialize_pem()].concat();
        fs::write(&pem, text).context("cannot write the certificate")?;
        Ok(Self { pem, root: root.der().clone() })
    }
}

fn key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
