//! The message of the command line: JSON or text.

use std::io::Read as _;

use serde_json::value::RawValue;

use super::args::PublishArgs;
use crate::error::Error;
use crate::limits;

/// Returns the message as JSON: JSON as it is, other text as a JSON string. Text that begins like
/// JSON is refused, because it is probably JSON with a mistake, which only the receiving page would
/// notice.
pub(super) fn message(args: &PublishArgs) -> Result<Box<RawValue>, Error> {
    let text = if args.message == "-" { from_stdin()? } else { args.message.clone() };
    if !args.text {
        match serde_json::from_str::<Box<RawValue>>(&text) {
            Ok(json) => return Ok(json),
            Err(error) if text.trim_start().starts_with(['{', '[', '"']) => {
                return Err(Error::Data(format!(
                    "the message begins like JSON but is not: {error}; use --text to send it as text"
                )));
            }
            Err(_) => {}
        }
    }
    serde_json::value::to_raw_value(&text)
        .map_err(|error| Error::Data(format!("the message: {error}")))
}

/// Reads the text of stdin and removes one line end from its end.
fn from_stdin() -> Result<String, Error> {
    let fault = |what: &dyn std::fmt::Display| Error::Data(format!("the message on stdin: {what}"));
    let mut bytes = Vec::new();
    // The limit is larger than the largest message that the server accepts, so a text that is cut
    // off here is refused and not sent.
    let most = limits::FRAME as u64;
    std::io::stdin().take(most).read_to_end(&mut bytes).map_err(|error| fault(&error))?;
    if bytes.len() >= limits::FRAME {
        return Err(fault(&format!(
            "too_large: a message has at most {} bytes of JSON",
            limits::MESSAGE
        )));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| fault(&"it is not UTF-8"))?;
    let line_end = if text.ends_with("\r\n") { 2 } else { usize::from(text.ends_with('\n')) };
    text.truncate(text.len() - line_end);
    Ok(text)
}
