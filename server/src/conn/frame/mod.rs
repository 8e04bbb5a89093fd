//! WebSocket frames (RFC 6455 section 5). The decoder buffers only incomplete frames and messages;
//! the encoder makes the frames that the server sends.
//!
//! tungstenite parses the headers. Its socket type is not used, because that type has a read and a
//! write buffer for every connection. An idle connection here has no buffer at all.

mod decode;
mod encode;
mod event;
mod fragments;

pub use decode::{Decoder, Rules};
pub use encode::data_frame;
pub(crate) use encode::{
    PING, as_seen, close_frame, empty_close_frame, end_of_frame_at, pong_frame, text_frame, text_of,
};
pub use event::{Event, Violation};

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
