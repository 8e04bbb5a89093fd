//! Certificates that are generated for each test.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SignatureAlgorithm,
};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// A root, an intermediate, and a leaf for `localhost`.
pub(crate) struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    pub(crate) root_pem: String,
    pub(crate) intermediate_pem: String,
    pub(crate) leaf_pem: String,
    pub(crate) key: KeyPair,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::for_key(KeyPair::generate().unwrap())
    }

    pub(crate) fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        Self::for_key(KeyPair::generate_for(algorithm).unwrap())
    }

    pub(crate) fn for_key(key: KeyPair) -> Self {
        let root =
            CertifiedIssuer::self_signed(authority("Test Root"), KeyPair::generate().unwrap())
                .unwrap();
        let intermediate = CertifiedIssuer::signed_by(
            authority("Test Intermediate"),
            KeyPair::generate().unwrap(),
            &root,
        )
        .unwrap();
        Self {
            root_pem: root.pem(),
            intermediate_pem: intermediate.pem(),
            leaf_pem: leaf().signed_by(&key, &intermediate).unwrap().pem(),
            root,
            intermediate,
            key,
        }
    }

    /// Generates another key, and a certificate for it from the same authorities.
    pub(crate) fn renew(&mut self) {
        self.key = KeyPair::generate().unwrap();
        self.leaf_pem = self.sign(leaf());
    }

    /// Signs a certificate for the key with the intermediate.
    pub(crate) fn sign(&self, mut params: CertificateParams) -> String {
        params.use_authority_key_identifier_extension = true;
        params.signed_by(&self.key, &self.intermediate).unwrap().pem()
    }

    /// Signs a certificate for the key with the root itself.
    pub(crate) fn root_leaf_pem(&self) -> String {
        leaf().signed_by(&self.key, &self.root).unwrap().pem()
    }

    pub(crate) fn leaf(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.leaf_pem.as_bytes()).unwrap()
    }

    /// The content of a PEM file made by `cat leaf.crt intermediate.crt main.key`.
    pub(crate) fn together(&self) -> String {
        [self.leaf_pem.as_str(), &self.intermediate_pem, &self.key.serialize_pem()].concat()
    }

    /// The configuration of a client that trusts only the root.
    pub(crate) fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        Arc::new(self.client_config(version))
    }

    pub(crate) fn client_config(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

fn leaf() -> CertificateParams {
    let mut leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.use_authority_key_identifier_extension = true;
    leaf
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    params
}
