//! Which certificate is the key's, and which ones lead from it towards a root.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// A certificate and what of it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
    key_id: Option<Vec<u8>>,
    issuer_key_id: Option<Vec<u8>>,
    /// Unix time.
    expires: i64,
    common_name: Option<String>,
    dns: Vec<String>,
    addresses: Vec<String>,
}

impl Certificate {
    /// `None` if it is not one X.509 certificate and nothing else.
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
            expires: parsed.validity().not_after.timestamp(),
            common_name: parsed
                .subject()
                .iter_common_name()
                .find_map(|name| name.as_str().ok().map(printable)),
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
                    .map(|four| std::net::IpAddr::from(four).to_string())
                    .or_else(|_| {
                        <[u8; 16]>::try_from(*bytes)
                            .map(|sixteen| std::net::IpAddr::from(sixteen).to_string())
                    });
                self.addresses.extend(address);
            }
            _ => {}
        }
    }

    pub(super) fn into_der(self) -> CertificateDer<'static> {
        self.der
    }

    /// What it is for: its alternative names; without them its common name.
    pub(super) fn names(&self) -> Vec<String> {
        let names: Vec<String> = self.dns.iter().chain(&self.addresses).cloned().collect();
        if names.is_empty() { self.common_name.iter().cloned().collect() } else { names }
    }

    /// The first DNS name, a wildcard's domain for a wildcard.
    pub(super) fn host(&self) -> Option<String> {
        let first = self.dns.first().or(self.common_name.as_ref())?;
        Some(first.strip_prefix("*.").unwrap_or(first).to_owned())
    }

    /// How to call it in a message.
    pub(super) fn label(&self) -> String {
        self.names().into_iter().next().unwrap_or_else(|| "without a name".to_owned())
    }

    fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether `other` issued this one. Names are compared as bytes, as clients do; key
    /// identifiers tell apart authorities that changed their key but not their name, and join
    /// names that only differ in encoding.
    fn is_issued_by(&self, other: &Self) -> bool {
        match (&self.issuer_key_id, &other.key_id) {
            (Some(wanted), Some(its)) => wanted == its,
            _ => self.issuer == other.subject,
        }
    }
}

/// The leaf, which is the certificate of `public_key`, then its issuer and so on; without the
/// root, which clients have, and without what belongs to another chain. `None` if no certificate
/// is of that key.
///
/// Of several certificates for one key, as a file appended to at every renewal has them, the one
/// that expires last is the leaf.
pub(super) fn order(
    mut certificates: Vec<Certificate>,
    public_key: &[u8],
) -> Option<Vec<Certificate>> {
    let leaf = certificates
        .iter()
        .enumerate()
        .filter(|(_, certificate)| certificate.public_key == public_key)
        .max_by_key(|(_, certificate)| certificate.expires)
        .map(|(index, _)| index)?;
    let mut chain = vec![certificates.remove(leaf)];
    // A root would be the end anyway. Left out first, a cross-signed certificate of the same
    // name and key takes its place and leads on to the older root.
    certificates.retain(|certificate| !certificate.is_self_issued());
    while let Some(last) = chain.last() {
        let Some(issuer) = certificates.iter().position(|other| last.is_issued_by(other)) else {
            break;
        };
        chain.push(certificates.remove(issuer));
    }
    Some(chain)
}

/// A name as it may be shown and logged: it comes from a file.
fn printable(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(253).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(subject: &str, issuer: &str, key: u8) -> Certificate {
        Certificate {
            der: CertificateDer::from(vec![key]),
            subject: subject.into(),
            issuer: issuer.into(),
            public_key: vec![key],
            key_id: None,
            issuer_key_id: None,
            expires: 0,
            common_name: Some(subject.to_owned()),
            dns: Vec::new(),
            addresses: Vec::new(),
        }
    }

    fn subjects(certificates: &[Certificate], key: u8) -> Vec<String> {
        let chain = order(certificates.to_vec(), &[key]).unwrap_or_default();
        chain.iter().map(Certificate::label).collect()
    }

    #[test]
    fn any_order_becomes_leaf_first_without_root() {
        let all = [
            certificate("root", "root", 3),
            certificate("second", "root", 2),
            certificate("other", "elsewhere", 9),
            certificate("leaf", "first", 0),
            certificate("first", "second", 1),
        ];
        for rotation in 0..all.len() {
            let mut all = all.to_vec();
            all.rotate_left(rotation);
            assert_eq!(subjects(&all, 0), ["leaf", "first", "second"]);
        }
        assert!(subjects(&all, 7).is_empty());
    }

    #[test]
    fn a_self_signed_leaf_stays_and_circles_end() {
        assert_eq!(subjects(&[certificate("own", "own", 0)], 0), ["own"]);
        let circle =
            [certificate("leaf", "a", 0), certificate("a", "b", 1), certificate("b", "a", 2)];
        assert_eq!(subjects(&circle, 0), ["leaf", "a", "b"]);
    }

    #[test]
    fn the_certificate_that_expires_last_is_the_leaf() {
        let old = Certificate { expires: 1, ..certificate("old", "ca", 0) };
        let new = Certificate { expires: 2, ..certificate("new", "ca", 0) };
        assert_eq!(subjects(&[old.clone(), new.clone()], 0), ["new"]);
        assert_eq!(subjects(&[new, old], 0), ["new"]);
    }

    #[test]
    fn key_identifiers_decide_between_authorities_of_one_name() {
        let leaf = Certificate { issuer_key_id: Some(vec![8]), ..certificate("leaf", "ca", 0) };
        let before = Certificate { key_id: Some(vec![7]), ..certificate("ca", "root", 1) };
        let now = Certificate { key_id: Some(vec![8]), ..certificate("ca", "top", 2) };
        let chain = order(vec![before, leaf, now.clone()], &[0]).unwrap();
        assert_eq!(chain[1..], [now]);
    }
}
