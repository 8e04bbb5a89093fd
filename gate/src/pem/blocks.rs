//! Splits a PEM file into blocks, and refuses blocks that do not belong in the file.
//!
//! `rustls-pki-types` can decode blocks, but it skips blocks of unknown types, and its errors do
//! not name the place of a fault. So this module splits the file itself, line by line.

use std::path::Path;

use crate::error::{Error, PemFault, PemLocation};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Certificate,
    Key,
    /// Parameters of an elliptic curve or of Diffie-Hellman. Other programs need them in the file.
    /// The gate ignores them.
    Parameters,
}

/// One block in its plain form: the markers and the base64 text, without header lines.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) location: PemLocation,
    pub(super) kind: BlockKind,
    pub(super) pem: Vec<u8>,
}

/// A block whose END line has not been read yet.
struct OpenBlock<'a> {
    location: PemLocation,
    label: &'a str,
    text: String,
    encrypted: bool,
}

/// Splits `content` of `file` into its blocks. Text between blocks is ignored.
///
/// # Errors [`Error::Pem`] if there is no block, or if a block is cut off, encrypted, or of a kind
/// that does not belong in the file.
pub(super) fn split(file: &Path, content: &[u8]) -> Result<Vec<Block>, Error> {
    let text = String::from_utf8_lossy(content);
    let mut blocks = Vec::new();
    let mut begun = 0;
    let mut open: Option<OpenBlock<'_>> = None;

    for (line, number) in lines(&text) {
        let fault =
            |block, fault| Error::Pem { location: PemLocation::block(file, block, number), fault };
        if let Some(label) = line.strip_prefix(BEGIN) {
            if let Some(open) = open {
                return Err(open.unterminated());
            }
            begun += 1;
            let label = label.strip_suffix(DASHES).ok_or_else(|| fault(begun, PemFault::Marker))?;
            let location = PemLocation::block(file, begun, number);
            open = Some(OpenBlock { location, label, text: String::new(), encrypted: false });
        } else if let Some(label) = line.strip_prefix(END) {
            let ended = open.take().ok_or_else(|| fault(begun + 1, PemFault::Marker))?;
            if label.strip_suffix(DASHES) != Some(ended.label) {
                return Err(Error::Pem { location: ended.location, fault: PemFault::Marker });
            }
            blocks.push(ended.close(file)?);
        } else if let Some(open) = &mut open {
            open.add(line);
        }
    }
    if let Some(open) = open {
        return Err(open.unterminated());
    }
    if blocks.is_empty() {
        return Err(Error::Pem { location: PemLocation::file(file), fault: no_block(content) });
    }
    Ok(blocks)
}

/// Lines with their numbers. If files were joined without a line break, END and BEGIN are on one
/// line. Such a line counts as two lines here.
fn lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    const JOINED: &str = "----------BEGIN ";
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split('\n').zip(1..).flat_map(|(line, number)| {
        let line = line.trim();
        let (first, second) = match line.find(JOINED) {
            Some(at) => (&line[..at + DASHES.len()], Some(&line[at + DASHES.len()..])),
            None => (line, None),
        };
        [Some(first), second].into_iter().flatten().map(move |line| (line, number))
    })
}

impl OpenBlock<'_> {
    /// Adds a line. Old formats have header lines ("Name: value") before the base64.
    fn add(&mut self, line: &str) {
        if line.contains(':') {
            self.encrypted |= line.starts_with("Proc-Type:") && line.contains("ENCRYPTED");
        } else {
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    fn unterminated(self) -> Error {
        let fault = PemFault::Unterminated(printable(self.label).to_lowercase());
        Error::Pem { location: self.location, fault }
    }

    fn close(self, file: &Path) -> Result<Block, Error> {
        let Self { location, label, text, encrypted } = self;
        let (kind, label) = match label {
            _ if encrypted => return refuse(location, PemFault::EncryptedKey(file.to_owned())),
            "CERTIFICATE" | "X509 CERTIFICATE" => (BlockKind::Certificate, "CERTIFICATE"),
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => (BlockKind::Key, label),
            "EC PARAMETERS" | "DH PARAMETERS" => (BlockKind::Parameters, label),
            "ENCRYPTED PRIVATE KEY" => {
                return refuse(location, PemFault::EncryptedKey(file.to_owned()));
            }
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                return refuse(location, PemFault::SigningRequest);
            }
            "TRUSTED CERTIFICATE" => return refuse(location, PemFault::TrustedCertificate),
            other if other.ends_with("PRIVATE KEY") => {
                return refuse(location, PemFault::ForeignKey(printable(other)));
            }
            other => return refuse(location, PemFault::Unknown(printable(other))),
        };
        let pem = format!("{BEGIN}{label}{DASHES}\n{text}{END}{label}{DASHES}\n").into_bytes();
        Ok(Block { location, kind, pem })
    }
}

fn refuse<T>(location: PemLocation, fault: PemFault) -> Result<T, Error> {
    Err(Error::Pem { location, fault })
}

/// A label without control characters. A damaged file may hold any bytes.
fn printable(label: &str) -> String {
    label.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(40).collect()
}

/// Guesses the format of a file without PEM blocks. Both DER formats begin with a SEQUENCE (0x30)
/// that has a two-byte length (0x82). Its first element is a SEQUENCE in a certificate, and the
/// INTEGER 3 (the version) in PKCS#12.
fn no_block(content: &[u8]) -> PemFault {
    match content {
        [0x30, 0x82, _, _, 0x30, ..] => PemFault::Binary {
            form: "a DER certificate",
            remedy: "openssl x509 -inform der -in leaf.der -out leaf.crt",
        },
        [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => PemFault::Binary {
            form: "PKCS#12",
            remedy: "openssl pkcs12 -in site.p12 -nodes -out cert.pem",
        },
        _ => PemFault::NoBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";

    fn fault(content: &str) -> String {
        split(Path::new("cert.pem"), content.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn text_around_blocks_windows_lines_and_missing_line_breaks_are_fine() {
        let content = format!(
            "\u{feff}{CERTIFICATE}{KEY}\r\nBag Attributes\r\n  friendlyName: shop\n\
             -----BEGIN EC PARAMETERS-----\r\nBggqhkjOPQMBBw==\r\n-----END EC PARAMETERS-----\r\n"
        );
        let blocks = split(Path::new("cert.pem"), content.as_bytes()).unwrap();
        let kinds: Vec<BlockKind> = blocks.iter().map(|block| block.kind).collect();
        assert_eq!(kinds, [BlockKind::Certificate, BlockKind::Key, BlockKind::Parameters]);
        assert_eq!(blocks[1].pem, format!("{KEY}\n").into_bytes());
        assert_eq!(blocks[1].location, PemLocation::block(Path::new("cert.pem"), 2, 3));
    }

    #[test]
    fn faults_name_block_and_line() {
        let cut_off = format!("{KEY}\n-----BEGIN CERTIFICATE-----\nAAAA\n");
        assert!(fault(&cut_off).starts_with("cert.pem, block 2 (line 4): the certificate has no"));
        let run_into = format!("-----BEGIN CERTIFICATE-----\nAAAA\n{KEY}\n");
        assert!(fault(&run_into).starts_with("cert.pem, block 1 (line 1): the certificate has no"));
        let odd = fault("-----BEGIN \u{1b}[2J-----\n");
        assert!(!odd.contains(char::is_control), "{odd:?}");
        assert!(fault("\n-----END CERTIFICATE-----").contains("block 1 (line 2)"));
        assert!(fault("-----BEGIN CERTIFICATE---\n").contains("BEGIN or END line"));
    }

    #[test]
    fn binary_files_are_recognised() {
        let fault = |content: &[u8]| no_block(content);
        let certificate = [0x30, 0x82, 0x03, 0x10, 0x30, 0x82, 0x02, 0x10];
        assert!(matches!(fault(&certificate), PemFault::Binary { form: "a DER certificate", .. }));
        let pkcs12 = [0x30, 0x82, 0x0a, 0x10, 0x02, 0x01, 0x03, 0x30];
        assert!(matches!(fault(&pkcs12), PemFault::Binary { form: "PKCS#12", .. }));
        assert_eq!(fault(&[0x30]), PemFault::NoBlock);
        assert_eq!(fault(b""), PemFault::NoBlock);
    }
}
