//! The faults that a PEM file can have, and where in the file they are.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a fault is: in a file, in one block of a file, or in several files together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemLocation {
    files: Vec<PathBuf>,
    block: Option<(usize, usize)>,
}

impl PemLocation {
    /// The location of a fault in one whole file.
    pub(crate) fn file(file: &Path) -> Self {
        Self { files: vec![file.to_owned()], block: None }
    }

    /// The location of a fault that concerns several whole files.
    pub(crate) fn files(files: Vec<&Path>) -> Self {
        Self { files: files.into_iter().map(Path::to_owned).collect(), block: None }
    }

    /// Whether this location is `file` or a block in it.
    pub(crate) fn is_in(&self, file: &Path) -> bool {
        self.files.iter().any(|own| own == file)
    }

    /// The location of block number `block` of `file`, which begins on line `line`. Both count from
    /// 1.
    pub(crate) fn block(file: &Path, block: usize, line: usize) -> Self {
        Self { files: vec![file.to_owned()], block: Some((block, line)) }
    }
}

impl fmt::Display for PemLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| file.to_string_lossy()).collect();
        write!(f, "{}", files.join(" and "))?;
        match self.block {
            Some((block, line)) => write!(f, ", block {block} (line {line})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with the content of a PEM file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// The file is too large for a PEM file.
    #[error("it is larger than {0} bytes, so it is no PEM file of a key and its certificates")]
    TooLarge(u64),
    /// The file holds no PEM block.
    #[error(
        "it holds no PEM block; put the certificate, its intermediates and the private key \
             into it: cat leaf.crt intermediate.crt main.key > cert.pem"
    )]
    NoBlock,
    /// The file is binary instead of text.
    #[error("it is {form}, not PEM; convert it: {remedy}")]
    Binary {
        /// The format that the content seems to have.
        form: &'static str,
        /// The command that converts the file to PEM.
        remedy: &'static str,
    },
    /// A BEGIN or END line is damaged.
    #[error("its BEGIN or END line is damaged; copy the block again, each line whole")]
    Marker,
    /// A block has a BEGIN line but no END line.
    #[error(
        "the {0} has no END line, so the file is cut off or blocks run into each other; \
             copy it again, with a line break after each END line"
    )]
    Unterminated(String),
    /// The text between BEGIN and END is damaged.
    #[error("the {0} is damaged (its base64 cannot be decoded); copy the block again")]
    Base64(String),
    /// The file holds a block of a type that does not belong in it.
    #[error("a block of type {0} does not belong in this file; remove it")]
    Unknown(String),
    /// The block is a certificate signing request.
    #[error(
        "it is a signing request, not a certificate; \
             replace it by the certificate that the authority answered with"
    )]
    SigningRequest,
    /// The block is in OpenSSL's own TRUSTED CERTIFICATE format.
    #[error(
        "it is OpenSSL's own TRUSTED CERTIFICATE; \
             convert it: openssl x509 -in trusted.pem -out leaf.crt"
    )]
    TrustedCertificate,
    /// No file holds a certificate.
    #[error("no certificate in it; append it: cat leaf.crt intermediate.crt main.key > cert.pem")]
    NoCertificate,
    /// The block holds no X.509 certificate.
    #[error("the certificate is damaged (it is not X.509); copy the block again")]
    Certificate,
    /// No file holds a private key.
    #[error("no private key in it; append it: cat leaf.crt intermediate.crt main.key > cert.pem")]
    NoKey,
    /// The private key is encrypted with a passphrase.
    #[error("the private key is encrypted; \
             decrypt it: openssl pkey -in {} -out main.key, and put that key in its place", quoted(.0))]
    EncryptedKey(PathBuf),
    /// The files hold two different private keys.
    #[error(
        "a second private key, different from that of {0}; keep only the key of the certificate"
    )]
    SecondKey(PemLocation),
    /// TLS cannot use the private key.
    #[error(
        "the private key cannot be used (damaged, or not one of RSA with 2048 to 8192 bits, \
             P-256, P-384, P-521, Ed25519); request a certificate with a P-256 key"
    )]
    Key,
    /// The private key is in another program's format.
    #[error(
        "a {0} cannot be used for TLS; \
             convert it: ssh-keygen -p -m PKCS8 -f KEYFILE, or make a new key and certificate"
    )]
    ForeignKey(String),
    /// No certificate belongs to the private key.
    #[error(
        "the private key does not belong to any of the {0} certificates (first: {1}); \
             put in the key that the certificate was requested with"
    )]
    Mismatch(usize, String),
}

/// Quotes a path so that a shell reads it as one word.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@=".contains(c);
    if text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_commands_stay_one_word() {
        assert_eq!(quoted(Path::new("/etc/gate/cert.pem")), "/etc/gate/cert.pem");
        assert_eq!(quoted(Path::new("my cert's.pem")), r"'my cert'\''s.pem'");
    }
}
