//! Finds the certificate that belongs to the key, and the chain from it towards a root.

use super::certificate::Certificate;

/// The certificates of a PEM file, sorted by whether they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// The certificates that are sent: the leaf, then its issuer and so on, without the root.
    pub(super) sent: Vec<Certificate>,
    /// The certificates that are not sent: roots, and certificates of other chains.
    pub(super) left_out: Vec<Certificate>,
}

impl Chain {
    /// The name of the leaf's issuer if the file certainly lacks it. The issuer is certainly
    /// missing if the leaf is sent alone and its root is not in the file, because public
    /// authorities issue leaves only through intermediates. In a longer chain, the last certificate
    /// was presumably issued by a root.
    pub(super) fn missing(&self) -> Option<&str> {
        let [leaf] = self.sent.as_slice() else { return None };
        let known = leaf.is_self_issued()
            || self.left_out.iter().any(|root| root.is_self_issued() && leaf.is_issued_by(root));
        (!known).then_some(leaf.issuer_name.as_str())
    }
}

/// Sorts the certificates. The leaf, which is the certificate of `public_key`, comes first, then
/// its issuer and so on. The root, which clients already have, and certificates of other chains are
/// left out. `None` if no certificate has this key.
///
/// If several certificates have this key, as in a file to which every renewal appends a
/// certificate, the leaf is the certificate that expires last.
pub(super) fn order(mut certificates: Vec<Certificate>, public_key: &[u8]) -> Option<Chain> {
    let leaf = certificates
        .iter()
        .enumerate()
        .filter(|(_, certificate)| certificate.public_key == public_key)
        .max_by_key(|(_, certificate)| certificate.expires)
        .map(|(index, _)| index)?;
    let mut sent = vec![certificates.remove(leaf)];
    // A root would end the chain anyway. Roots are taken out first, so that a cross-signed
    // certificate with the same name and key is used instead. Such a certificate leads to an older
    // root.
    let (mut left_out, mut certificates): (Vec<_>, Vec<_>) =
        certificates.into_iter().partition(Certificate::is_self_issued);
    while let Some(last) = sent.last() {
        let Some(issuer) = certificates.iter().position(|other| last.is_issued_by(other)) else {
            break;
        };
        sent.push(certificates.remove(issuer));
    }
    left_out.append(&mut certificates);
    Some(Chain { sent, left_out })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rustls_pki_types::CertificateDer;

    use super::*;

    fn certificate(subject: &str, issuer: &str, key: u8) -> Certificate {
        Certificate {
            der: CertificateDer::from(vec![key]),
            subject: subject.into(),
            issuer: issuer.into(),
            public_key: vec![key],
            key_id: None,
            issuer_key_id: None,
            begins: UNIX_EPOCH,
            expires: UNIX_EPOCH,
            key_kind: String::new(),
            common_name: Some(subject.to_owned()),
            issuer_name: issuer.to_owned(),
            dns: Vec::new(),
            addresses: Vec::new(),
        }
    }

    fn subjects(certificates: &[Certificate], key: u8) -> Vec<String> {
        let chain = order(certificates.to_vec(), &[key]).unwrap_or_default();
        chain.sent.iter().map(Certificate::label).collect()
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
        let old = Certificate { expires: UNIX_EPOCH, ..certificate("old", "ca", 0) };
        let new = Certificate {
            expires: UNIX_EPOCH + Duration::from_secs(1),
            ..certificate("new", "ca", 0)
        };
        assert_eq!(subjects(&[old.clone(), new.clone()], 0), ["new"]);
        assert_eq!(subjects(&[new, old], 0), ["new"]);
    }

    #[test]
    fn key_identifiers_decide_between_authorities_of_one_name() {
        let leaf = Certificate { issuer_key_id: Some(vec![8]), ..certificate("leaf", "ca", 0) };
        let before = Certificate { key_id: Some(vec![7]), ..certificate("ca", "root", 1) };
        let now = Certificate { key_id: Some(vec![8]), ..certificate("ca", "top", 2) };
        let chain = order(vec![before, leaf, now.clone()], &[0]).unwrap();
        assert_eq!(chain.sent[1..], [now]);
    }

    #[test]
    fn only_a_leaf_without_any_issuer_misses_one() {
        let missing = |certificates: &[Certificate]| {
            order(certificates.to_vec(), &[0]).unwrap().missing().map(str::to_owned)
        };
        let leaf = certificate("leaf", "first", 0);
        let root = |name| certificate(name, name, 9);
        assert_eq!(missing(std::slice::from_ref(&leaf)), Some("first".to_owned()));
        assert_eq!(missing(&[leaf.clone(), root("other")]), Some("first".to_owned()));
        assert_eq!(missing(&[leaf.clone(), root("first")]), None);
        assert_eq!(missing(&[leaf, certificate("first", "root", 1)]), None);
        assert_eq!(missing(&[certificate("own", "own", 0)]), None);
    }
}
