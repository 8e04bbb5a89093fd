//! One certificate, and the fields of it that the gate uses.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::tls;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) public_key: Vec<u8>,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) issuer_key_id: Option<Vec<u8>>,
    pub(super) begins: SystemTime,
    pub(super) expires: SystemTime,
    pub(super) key_kind: String,
    pub(super) common_name: Option<String>,
    pub(super) issuer_name: String,
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<String>,
}

impl Certificate {
    /// Parses `der`. Returns `None` if `der` is not exactly one X.509 certificate.
    pub(super) fn parse(der: CertificateDer<'static>) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(&der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut this = Self {
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            public_key: parsed.public_key().raw.to_vec(),
            key_id: None,
            issuer_key_id: None,
            begins: time(parsed.validity().not_before),
            expires: time(parsed.validity().not_after),
            key_kind: key_kind(parsed.public_key()),
            common_name: common_name(parsed.subject()),
            issuer_name: common_name(parsed.issuer())
                .unwrap_or_else(|| printable(&parsed.issuer().to_string())),
            dns: Vec::new(),
            addresses: Vec::new(),
            der: der.clone(),
        };
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => this.key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    this.issuer_key_id = authority.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    names.general_names.iter().for_each(|name| this.add_name(name));
                }
                _ => {}
            }
        }
        Some(this)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns.push(printable(name)),
            GeneralName::IPAddress(bytes) => {
                let address = <[u8; 4]>::try_from(*bytes)
                    .map(|four| IpAddr::from(four).to_string())
                    .or_else(|_| {
                        <[u8; 16]>::try_from(*bytes)
                            .map(|sixteen| IpAddr::from(sixteen).to_string())
                    });
                self.addresses.extend(address);
            }
            _ => {}
        }
    }

    /// The alternative names. If the certificate has no alternative name, the list holds its common
    /// name.
    pub(super) fn names(&self) -> Vec<String> {
        let names: Vec<String> = self.dns.iter().chain(&self.addresses).cloned().collect();
        if names.is_empty() { self.common_name.iter().cloned().collect() } else { names }
    }

    /// The first DNS name, or else the common name. For the wildcard `*.shop.example`, the host is
    /// `shop.example`.
    pub(super) fn host(&self) -> Option<String> {
        let first = self.dns.first().or(self.common_name.as_ref())?;
        Some(first.strip_prefix("*.").unwrap_or(first).to_owned())
    }

    /// The name of the certificate in messages.
    pub(super) fn label(&self) -> String {
        self.names().into_iter().next().unwrap_or_else(|| "without a name".to_owned())
    }

    /// Whether the certificate lacks alternative names, the only names that browsers check.
    pub(super) fn has_no_alternative_name(&self) -> bool {
        self.dns.is_empty() && self.addresses.is_empty()
    }

    /// The alternative name that a new certificate should have, made from the common name. If the
    /// common name cannot be a host name (for example, if it names a company), the function returns
    /// an example name.
    pub(super) fn wanted_alternative_name(&self) -> String {
        let name = self.common_name.as_deref().unwrap_or_default();
        let is_of_host = |c: char| c.is_ascii_alphanumeric() || "-.*".contains(c);
        match name.parse::<IpAddr>() {
            Ok(address) => format!("IP:{address}"),
            Err(_) if !name.is_empty() && name.chars().all(is_of_host) => format!("DNS:{name}"),
            Err(_) => "DNS:shop.example".to_owned(),
        }
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether the certificate was signed with its own key. Comparing the names is not enough: a
    /// private authority may have the same name as the only host for which it issues certificates.
    pub(super) fn is_self_signed(&self) -> bool {
        if !self.is_self_issued() {
            return false;
        }
        let Ok((_, parsed)) = X509Certificate::from_der(&self.der) else { return false };
        let key = &parsed.public_key().subject_public_key.data;
        let (signed, signature) = (parsed.tbs_certificate.as_ref(), &parsed.signature_value.data);
        // A key verifies only signatures of its own kind, so it is safe to try all kinds.
        let kinds = tls::provider().signature_verification_algorithms.all;
        kinds.iter().any(|kind| kind.verify_signature(key, signed, signature).is_ok())
    }

    /// Whether `other` issued this certificate. Names are compared as bytes, as clients do. Key
    /// identifiers are compared first. They differ if an authority changed its key but not its
    /// name, and they are equal even if the encoding of the names differs.
    pub(super) fn is_issued_by(&self, other: &Self) -> bool {
        match (&self.issuer_key_id, &other.key_id) {
            (Some(wanted), Some(its)) => wanted == its,
            _ => self.issuer == other.subject,
        }
    }
}

/// Converts a time of validity. Times before 1970 become 1970. Both times are long past.
fn time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().find_map(|name| name.as_str().ok().map(printable))
}

/// The usual name of the kind of key, such as `P-256` or `RSA of 2048 bits`.
fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> String {
    let parameter = || key.algorithm.parameters.as_ref()?.as_oid().ok().map(|id| id.to_id_string());
    match (key.algorithm.algorithm.to_id_string().as_str(), key.parsed()) {
        (_, Ok(PublicKey::RSA(rsa))) => format!("RSA of {} bits", rsa.key_size()),
        ("1.3.101.112", _) => "Ed25519".to_owned(),
        (other, _) => match parameter().as_deref() {
            Some("1.2.840.10045.3.1.7") => "P-256".to_owned(),
            Some("1.3.132.0.34") => "P-384".to_owned(),
            Some("1.3.132.0.35") => "P-521".to_owned(),
            Some(curve) => curve.to_owned(),
            None => other.to_owned(),
        },
    }
}

/// A name without control characters, for messages and logs. The name in a certificate may hold any
/// bytes.
fn printable(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(253).collect()
}
