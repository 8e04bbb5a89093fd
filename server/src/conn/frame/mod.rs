//! WebSocket frames (RFC 6455 section 5): a decoder that buffers incomplete frames and messages
//! only, and the encoding of the frames that the server sends.
//!
//! tungstenite parses the headers. Its socket type is not used, because it keeps a read and a write
//! buffer for every connection; here an idle connection has no buffer at all.

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
