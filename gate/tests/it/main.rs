//! The built program, from outside: certificates made for the test, real sockets, and no sleeps.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

mod backend;
mod bytes;
mod certificates;
mod ends;
mod ports;
mod proxied;
mod start;
mod stopping;
mod strangers;
mod unix;
