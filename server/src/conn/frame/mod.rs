//! WebSocket frames (RFC 6455 section 5): a decoder that keeps bytes only of what is incomplete,
//! and the encoding of what the server sends.
//!
//! tungstenite parses the headers. Its own socket type is not used, because it keeps a read and a
//! write buffer for every connection, while here an idle connection holds no buffer at all.

mod decode;
mod encode;
mod fragments;

pub(crate) use decode::Violation;
pub use decode::{Decoder, Event, Rules};
pub use encode::data_frame;
pub(crate) use encode::{
    PING, as_seen, close_frame, empty_close_frame, end_of_frame_at, pong_frame, text_frame, text_of,
};

#[cfg(test)]
mod client;
#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
