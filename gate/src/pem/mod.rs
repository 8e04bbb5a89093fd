//! The PEM file: one private key, its certificate, and the intermediate certificates, in any order.

mod blocks;
mod certificate;
mod chain;
mod files;
mod identity;
mod warning;
mod watch;

pub(crate) use files::PemFiles;
pub use identity::Identity;
pub(crate) use warning::{date, days};
pub(crate) use watch::PemWatch;
