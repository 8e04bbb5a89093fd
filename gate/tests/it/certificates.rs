//! PEM files as people have them: any order, any format of key, in one file or several.

use std::fs;

use gate::pem::Source;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    RsaKeySize,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;

use crate::harness::{Gate, Pki, VERSIONS, echo, round_trip};

/// The client of every test here knows the root alone, so a round trip proves that leaf and
/// intermediate were sent, and that the key is the leaf's.
async fn serves(pki: Pki, files: &[(&str, &str)]) {
    let gate = Gate::start_with(pki, files, echo().await, &[]);
    for version in VERSIONS {
        round_trip(&mut gate.client_of(gate.pki.client(version)).await).await;
    }
}

fn permutations(items: &[String]) -> Vec<Vec<String>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |first: usize| {
        let mut others = items.to_vec();
        let first = others.remove(first);
        permutations(&others).into_iter().map(move |mut rest| {
            rest.insert(0, first.clone());
            rest
        })
    };
    (0..items.len()).flat_map(with_first).collect()
}

#[test]
fn blocks_may_stand_in_any_order() {
    let pki = Pki::new();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("cert.pem");
    let blocks = [&pki.leaf_pem, &pki.intermediate_pem, &pki.root_pem].map(String::clone);
    let expected: Vec<_> = blocks[..2]
        .iter()
        .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .collect();
    let all: Vec<String> = blocks.into_iter().chain([pki.key.serialize_pem()]).collect();
    let orders = permutations(&all);
    assert_eq!(orders.len(), 24);
    for order in orders {
        fs::write(&file, order.concat()).unwrap();
        let identity = Source::new(&file).load().unwrap();
        assert_eq!(identity.certified().cert, expected, "{order:?}");
        assert_eq!(identity.names(), ["localhost"]);
    }
}

#[tokio::test]
async fn the_intermediate_is_sent_and_the_root_is_not() {
    let pki = Pki::new();
    let content =
        [pki.root_pem.as_str(), &pki.key.serialize_pem(), &pki.intermediate_pem, &pki.leaf_pem];
    let content = content.concat();
    let gate = Gate::start_with(pki, &[("cert.pem", &content)], echo().await, &[]);
    let client = gate.client().await;
    assert_eq!(client.get_ref().1.peer_certificates().unwrap().len(), 2);
}

#[tokio::test]
async fn key_and_chain_may_be_two_files() {
    let pki = Pki::new();
    let key = pki.key.serialize_pem();
    let chain = [pki.leaf_pem.as_str(), &pki.intermediate_pem].concat();
    serves(pki, &[("key.pem", &key), ("chain.pem", &chain)]).await;
}

#[tokio::test]
async fn pkcs8_keys_of_every_kind() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    for pki in [
        Pki::of(&PKCS_ECDSA_P256_SHA256),
        Pki::of(&PKCS_ECDSA_P384_SHA384),
        Pki::of(&PKCS_ED25519),
        Pki::for_key(rsa),
    ] {
        let content = pki.together();
        serves(pki, &[("cert.pem", &content)]).await;
    }
}

/// As `openssl genrsa -traditional` and `openssl ecparam -genkey` write them.
#[tokio::test]
async fn keys_in_the_old_formats() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (pki, label, before) in [
        (Pki::for_key(rsa), "RSA PRIVATE KEY", ""),
        (Pki::of(&PKCS_ECDSA_P256_SHA256), "EC PRIVATE KEY", parameters),
        (Pki::of(&PKCS_ECDSA_P384_SHA384), "EC PRIVATE KEY", ""),
    ] {
        let inner = inner_key(&pki.key.serialize_der());
        let key = format!(
            "{before}-----BEGIN {label}-----\r\n{}\r\n-----END {label}-----\r\n",
            base64(&inner)
        );
        let content = [key.as_str(), &pki.intermediate_pem, &pki.leaf_pem].concat();
        serves(pki, &[("cert.pem", &content)]).await;
    }
}

/// PKCS#8 wraps the old formats: SEQUENCE { version, algorithm, OCTET STRING { the old format } }.
fn inner_key(pkcs8: &[u8]) -> Vec<u8> {
    let (sequence, _) = element(pkcs8);
    let (_version, rest) = element(sequence);
    let (_algorithm, rest) = element(rest);
    element(rest).0.to_vec()
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ ..0x80 => (usize::from(short), 2),
        long => {
            let end = 2 + usize::from(long & 0x7f);
            (der[2..end].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), end)
        }
    };
    der[start..].split_at(length)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, i| word << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            let digit = if digit <= three.len() { ALPHABET[index as usize] } else { b'=' };
            text.push(char::from(digit));
        }
    }
    text
}
