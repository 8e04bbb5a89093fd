//! Faults of a PEM file, and their location.

use std::fmt;
use std::path::{Path, PathBuf};

/// A file, and perhaps a block in it; or several files that are at fault together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemLocation {
    files: Vec<PathBuf>,
    block: Option<(usize, usize)>,
}

impl PemLocation {
    /// The whole file.
    pub(crate) fn file(file: &Path) -> Self {
        Self { files: vec![file.to_owned()], block: None }
    }

    /// Several whole files.
    pub(crate) fn files(files: Vec<&Path>) -> Self {
        Self { files: files.into_iter().map(Path::to_owned).collect(), block: None }
    }

    /// Whether the location is `file` or a block in it.
    pub(crate) fn is_in(&self, file: &Path) -> bool {
        self.files.iter().any(|own| own == file)
    }

    /// The `block`-th block of `file`, which begins on `line`; both count from 1.
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
    /// No block at all.
    #[error(
        "it holds no PEM block; put the certificate, its intermediates and the private key \
             into it: cat leaf.crt intermediate.crt main.key > cert.pem"
    )]
    NoBlock,
    /// Binary instead of text.
    #[error("it is {form}, not PEM; convert it: {remedy}")]
    Binary {
        /// What it looks like.
        form: &'static str,
        /// The command that converts it.
        remedy: &'static str,
    },
    /// A BEGIN or END line is damaged.
    #[error("its BEGIN or END line is damaged; copy the block again, each line whole")]
    Marker,
    /// BEGIN without END.
    #[error(
        "the {0} has no END line, so the file is cut off or blocks run into each other; \
             copy it again, with a line break after each END line"
    )]
    Unterminated(String),
    /// The text between BEGIN and END is damaged.
    #[error("the {0} is damaged (its base64 cannot be decoded); copy the block again")]
    Base64(String),
    /// A block of a kind that does not belong in the file.
    #[error("a block of type {0} does not belong in this file; remove it")]
    Unknown(String),
    /// A certificate signing request.
    #[error(
        "it is a signing request, not a certificate; \
             replace it by the certificate that the authority answered with"
    )]
    SigningRequest,
    /// OpenSSL's private format.
    #[error(
        "it is OpenSSL's own TRUSTED CERTIFICATE; \
             convert it: openssl x509 -in trusted.pem -out leaf.crt"
    )]
    TrustedCertificate,
    /// No certificate.
    #[error("no certificate in it; append it: cat leaf.crt intermediate.crt main.key > cert.pem")]
    NoCertificate,
    /// The block holds no X.509 certificate.
    #[error("the certificate is damaged (it is not X.509); copy the block again")]
    Certificate,
    /// No private key.
    #[error("no private key in it; append it: cat leaf.crt intermediate.crt main.key > cert.pem")]
    NoKey,
    /// A private key under a passphrase.
    #[error("the private key is encrypted; \
             decrypt it: openssl pkey -in {} -out main.key, and put that key in its place", quoted(.0))]
    EncryptedKey(PathBuf),
    /// More than one private key.
    #[error(
        "a second private key, different from that of {0}; keep only the key of the certificate"
    )]
    SecondKey(PemLocation),
    /// A private key that TLS cannot use.
    #[error(
        "the private key cannot be used (damaged, or not one of RSA with 2048 to 8192 bits, \
             P-256, P-384, P-521, Ed25519); request a certificate with a P-256 key"
    )]
    Key,
    /// A private key in another program's format.
    #[error(
        "a {0} cannot be used for TLS; \
             convert it: ssh-keygen -p -m PKCS8 -f KEYFILE, or make a new key and certificate"
    )]
    ForeignKey(String),
    /// No certificate for the key.
    #[error(
        "the private key does not belong to any of the {0} certificates (first: {1}); \
             put in the key that the certificate was requested with"
    )]
    Mismatch(usize, String),
}

/// Quotes a path so that it is one word of a shell command.
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
