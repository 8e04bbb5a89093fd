//! The code that `gate` and `server` share: accepting connections, time-outs, shutdown in phases,
//! logging, and reporting to people and service managers.

pub mod accept;
pub mod admin;
pub mod answer;
pub mod deadline;
pub mod descriptors;
pub mod exit;
pub mod ip_prefix;
pub mod linger;
pub mod log_throttle;
pub mod process;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod workers;
