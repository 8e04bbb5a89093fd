//! What `gate` and `server` both need: accepting without failing, deadlines that name their
//! phase, stopping in phases, and telling people and service managers what happens.

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
