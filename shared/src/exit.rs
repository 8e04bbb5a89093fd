//! The exit codes of BSD's `sysexits.h`.

/// The command line is wrong.
pub const USAGE: u8 = 64;
/// The content of an input is wrong: a PEM file, a message, an ID.
pub const DATA: u8 = 65;
/// An input file is missing or cannot be read.
pub const NO_INPUT: u8 = 66;
/// A port or a server is not available: another program has the port, or the server does not
/// answer.
pub const UNAVAILABLE: u8 = 69;
/// A defect of this program.
pub const SOFTWARE: u8 = 70;
/// The operating system refused a call that should succeed.
pub const OS: u8 = 71;
/// A permission is missing: a key, the mode of a file, or the right to bind a low port.
pub const NO_PERMISSION: u8 = 77;
/// The configuration file is wrong.
pub const CONFIG: u8 = 78;
