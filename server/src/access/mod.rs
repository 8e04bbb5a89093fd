//! Access control: who may do what, and how often. Keys and rate limits.

pub(crate) mod addresses;
pub(crate) mod auth;
pub(crate) mod bucket;
pub(crate) mod policy;
pub(crate) mod rate_limit;
pub(crate) mod visitor;
