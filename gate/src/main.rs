//! gate
fn main() {}
