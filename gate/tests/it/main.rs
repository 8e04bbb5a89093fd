//! Tests of the built program from outside, with certificates made for each test, real sockets and
//! no sleeps.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;
mod pki;

mod admin;
mod backend;
mod bytes;
mod certificates;
mod check;
mod conn_limits;
mod ends;
mod exhaustion;
mod pipe;
mod ports;
mod proxy_protocol;
mod renewal;
mod resumption;
mod service;
mod soak;
mod start;
mod stopping;
mod strangers;
mod unix;
