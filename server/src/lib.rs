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
mod door;
pub mod error;
mod exposure;
pub mod frame;
pub mod handler;
pub mod http;
pub mod hub;
pub mod id;
pub mod inbox;
pub mod keep;
pub mod limits;
pub mod listeners;
pub mod log;
mod memory;
pub mod messages;
pub mod metrics;
mod mids;
mod newcomer;
pub mod origin;
pub mod outbox;
pub mod policy;
pub mod protocol;
mod proxied;
pub mod publish;
pub mod rates;
pub mod reload;
pub mod ring;
pub mod room;
pub mod run;
pub mod secret;
pub mod session;
pub mod shard;
pub mod size;
pub mod socket;
mod span;
pub mod web;
