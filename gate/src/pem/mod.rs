//! The PEM file: one private key, its certificate, and the certificates between that and a root,
//! in any order.

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
