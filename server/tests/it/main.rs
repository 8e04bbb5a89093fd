//! The built server, driven from outside.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod budget;
mod cli;
mod cluster;
mod config;
mod data;
mod delivery;
mod descriptors;
mod door;
mod durable;
mod fanout;
mod files;
mod harness;
mod http;
mod keeping;
mod keys;
mod listen;
mod lists;
mod manager;
mod metrics;
mod pings;
mod proxied;
mod rates;
mod reload;
mod rooms;
mod service;
mod status;
mod stopping;
mod trace;
mod vanished;
mod warnings;
mod wrong_place;
