//! The parts of PEM files, generated for each test. `tests/fixtures/pem/README.md` lists them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DnType, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};

use crate::harness::Pki;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// All parts of PEM files that belong to one key, and a second set with another key.
pub(super) struct Pantry {
    pub(super) pki: Pki,
    other: Pki,
    /// The parts generated so far, so that a part that is used twice is the same both times.
    taken: RefCell<HashMap<String, Vec<u8>>>,
}

impl Pantry {
    pub(super) fn of(key: &str) -> Self {
        let pki = match key {
            "p256" => Pki::of(&PKCS_ECDSA_P256_SHA256),
            "p384" => Pki::of(&PKCS_ECDSA_P384_SHA384),
            "ed25519" => Pki::of(&PKCS_ED25519),
            "rsa" => Pki::for_key(
                KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
            ),
            other => panic!("there is no key {other}"),
        };
        Self { pki, other: Pki::new(), taken: RefCell::default() }
    }

    /// Returns a part. `part` is `ingredient` or `manner(argument):ingredient`.
    pub(super) fn take(&self, part: &str) -> Vec<u8> {
        if let Some(before) = self.taken.borrow().get(part) {
            return before.clone();
        }
        let made = self.make(part);
        self.taken.borrow_mut().insert(part.to_owned(), made.clone());
        made
    }

    fn make(&self, part: &str) -> Vec<u8> {
        if let Some((manner, rest)) = part.split_once(':') {
            let (manner, argument) = manner.split_once('(').unwrap_or((manner, ")"));
            let argument = argument.trim_end_matches(')').replace('_', " ");
            return treat(manner, &argument, &String::from_utf8(self.take(rest)).unwrap());
        }
        let pki = &self.pki;
        let text = match part {
            "leaf" => pki.leaf_pem.clone(),
            "intermediate" => pki.intermediate_pem.clone(),
            "root" => pki.root_pem.clone(),
            "key" => pki.key.serialize_pem(),
            "key-pkcs1" => block("RSA PRIVATE KEY", &inner_key(&pki.key.serialize_der())),
            "key-sec1" => block("EC PRIVATE KEY", &inner_key(&pki.key.serialize_der())),
            "other-leaf" => self.other.leaf_pem.clone(),
            "other-intermediate" => self.other.intermediate_pem.clone(),
            "other-root" => self.other.root_pem.clone(),
            "other-key" => self.other.key.serialize_pem(),
            "request" => request(&pki.key),
            "root-leaf" => pki.root_leaf_pem(),
            "self-signed" => dated(-1, 365).self_signed(&pki.key).unwrap().pem(),
            "namesake-leaf" => {
                let key = KeyPair::generate().unwrap();
                let authority = Issuer::new(dated(-1, 365), key);
                dated(-1, 365).signed_by(&pki.key, &authority).unwrap().pem()
            }
            "nameless-leaf" => pki.sign(nameless()),
            "self-signed-nameless" => nameless().self_signed(&pki.key).unwrap().pem(),
            "old-leaf" => pki.sign(dated(-10, 5)),
            "soon-leaf" => pki.sign(dated(-60, 20)),
            "expired-leaf" => pki.sign(dated(-60, -2)),
            "future-leaf" => pki.sign(dated(5, 365)),
            "parameters" => {
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
                    .into()
            }
            "encrypted-old" => "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                 DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
                .into(),
            "nothing" => String::new(),
            "text" => "Bag Attributes\n    friendlyName: shop\nsubject=CN = shop\n".into(),
            "bom" => "\u{feff}".into(),
            "der" => return vec![0x30, 0x82, 3, 0, 0x30, 0x82, 2, 0],
            "pkcs12" => return vec![0x30, 0x82, 3, 0, 2, 1, 3, 0],
            "noise" => return crate::harness::noise(1, 5_000),
            other => panic!("there is no {other}"),
        };
        text.into_bytes()
    }
}

fn treat(manner: &str, argument: &str, pem: &str) -> Vec<u8> {
    let label = pem.split("-----").nth(1).unwrap().trim_start_matches("BEGIN ").to_owned();
    let text = match manner {
        // The line ends that a Windows editor writes.
        "crlf" => pem.replace('\n', "\r\n"),
        // The part has no final line break, so the next part follows on the same line.
        "glued" => pem.trim_end().to_owned(),
        "half" => pem[..pem.len() / 2].to_owned(),
        "half-line" => format!("{}\n", &pem[..pem.len() / 2]),
        "marked" => pem.replacen(&format!("BEGIN {label}-----"), &format!("BEGIN {label}---"), 1),
        "misended" => pem.replace(&format!("END {label}-----"), "END SOMETHING-----"),
        "unbase64" => {
            let mut lines: Vec<_> = pem.lines().map(str::to_owned).collect();
            lines[2].replace_range(..1, "!");
            lines.join("\n") + "\n"
        }
        "empty" => format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"),
        "as" => pem.replace(&format!("{label}-----"), &format!("{argument}-----")),
        other => panic!("there is no manner {other}"),
    };
    text.into_bytes()
}

/// Parameters of a leaf that is valid from day `from` to day `to`, counted from today.
fn dated(from: i64, to: i64) -> CertificateParams {
    let day = |day: i64| {
        let distance = DAY * u32::try_from(day.unsigned_abs()).unwrap();
        if day < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
    };
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.not_before = day(from).into();
    params.not_after = day(to).into();
    params
}

/// Parameters of a leaf that has a common name but no alternative name.
fn nameless() -> CertificateParams {
    let mut params = dated(-1, 365);
    params.subject_alt_names.clear();
    params
}

fn request(key: &KeyPair) -> String {
    dated(-1, 1).serialize_request(key).unwrap().pem().unwrap()
}

fn block(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(der))
}

/// Unwraps a PKCS#8 key, SEQUENCE { version, algorithm, OCTET STRING { key } }. The inner key has
/// the older format (PKCS#1 or SEC1).
fn inner_key(pkcs8: &[u8]) -> Vec<u8> {
    let (sequence, _) = element(pkcs8);
    let (_version, rest) = element(sequence);
    let (_algorithm, rest) = element(rest);
    element(rest).0.to_vec()
}

/// Returns the content of the first DER element, and the bytes after the element.
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
