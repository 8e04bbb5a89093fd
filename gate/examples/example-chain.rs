//! Writes an example certificate chain for the gate: root, intermediate, leaf, key, and the
//! `cert.pem` that the gate reads.
//!
//! `cargo run -p gate --example example-chain -- DIR [--force]`

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The validity of each certificate: one year. Browsers refuse leaves that are valid for more than
/// 398 days.
const VALID: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const FILES: [&str; 5] = ["root.crt", "intermediate.crt", "leaf.crt", "main.key", "cert.pem"];

/// Writes an example certificate chain and its key for localhost. For trying only: nobody trusts
/// its root, and its key is stored beside it.
#[derive(Parser)]
struct Options {
    /// Directory to write to; created if missing
    dir: PathBuf,
    /// Write even if a set that is still valid exists
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut out = io::stdout().lock();
    let done = write_chain(&options, &mut out);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "example-chain: {}: {error}", options.dir.display());
            ExitCode::FAILURE
        }
    }
}

fn write_chain(options: &Options, out: &mut impl io::Write) -> Result<(), Box<dyn Error>> {
    let dir = &options.dir;
    if !options.force && is_valid(dir) {
        writeln!(out, "{} holds a valid set already (--force replaces it)", dir.display())?;
        return Ok(());
    }
    fs::create_dir_all(dir)?;

    let root = CertifiedIssuer::self_signed(authority("Example Root", None), KeyPair::generate()?)?;
    let intermediate = CertifiedIssuer::signed_by(
        authority("Example Intermediate", Some(0)),
        KeyPair::generate()?,
        &root,
    )?;
    let key = KeyPair::generate()?;
    let leaf = leaf()?.signed_by(&key, &intermediate)?;

    let key = key.serialize_pem();
    let together = [leaf.pem(), intermediate.pem(), key.clone()].concat();
    let contents = [root.pem(), intermediate.pem(), leaf.pem(), key, together];
    for (name, content) in FILES.into_iter().zip(contents) {
        let secret = content.contains("PRIVATE KEY");
        let path = dir.join(name);
        replace(&path, &content, if secret { 0o600 } else { 0o644 })?;
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}

fn authority(name: &str, path_length: Option<u8>) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_name_and_dates(&mut params, name);
    params.is_ca = IsCa::Ca(
        path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained),
    );
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn leaf() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    set_name_and_dates(&mut params, NAMES[0]);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Sets the name and the dates. The validity begins yesterday, for clients whose clocks are behind.
fn set_name_and_dates(params: &mut CertificateParams, name: &str) {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    let yesterday = SystemTime::now() - DAY;
    params.not_before = yesterday.into();
    params.not_after = (yesterday + VALID).into();
}

/// Whether all files exist and the leaf is valid for at least one more day.
fn is_valid(dir: &Path) -> bool {
    let tomorrow = (SystemTime::now() + DAY).duration_since(UNIX_EPOCH).unwrap_or_default();
    FILES.iter().all(|name| dir.join(name).is_file())
        && CertificateDer::from_pem_file(dir.join("leaf.crt")).is_ok_and(|leaf| {
            X509Certificate::from_der(&leaf).is_ok_and(|(_, leaf)| {
                u64::try_from(leaf.validity().not_after.timestamp())
                    .is_ok_and(|expires| expires > tomorrow.as_secs())
            })
        })
}

/// Writes a temporary file and renames it, so that a gate never reads half a file.
fn replace(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
