//! Integration tests, which run the built server as a separate process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod admission;
mod budget;
mod cli;
mod closed;
mod cluster;
mod config;
mod data;
mod delivery;
mod descriptors;
mod durable;
mod fanout;
mod files;
mod harness;
mod history_settings;
mod http;
mod keys;
mod listen;
mod manager;
mod memory_budget;
mod metrics;
mod pings;
mod proxy_protocol;
mod rates;
mod refusals;
mod registrations;
mod reload;
mod service;
mod status;
mod stopping;
mod trace;
mod vanished;
mod warnings;
mod wrong_place;
