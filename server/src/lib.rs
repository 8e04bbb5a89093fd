//! Realtime notifications for an existing website.
//!
//! Work flows one way: publisher → `log` → `hub` → `shard` → `outbox`. Clients come in through
//! `http` and, after the upgrade, `socket`; `protocol` says what they may say.

pub mod admin;
pub mod auth;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod connection;
pub mod error;
pub mod frame;
pub mod http;
pub mod hub;
pub mod id;
pub mod inbox;
pub mod keep;
pub mod limits;
pub mod log;
pub mod messages;
pub mod metrics;
mod mids;
pub mod origin;
pub mod outbox;
pub mod protocol;
pub mod publish;
pub mod ring;
pub mod run;
pub mod secret;
pub mod session;
pub mod shard;
pub mod size;
pub mod socket;
pub mod web;
