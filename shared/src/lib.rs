//! What `gate` and `server` both need: accepting without failing, deadlines that name their
//! phase, stopping in phases, and telling people what happens.

pub mod accept;
pub mod deadline;
pub mod descriptors;
pub mod exit;
pub mod linger;
pub mod shutdown;
pub mod telemetry;
