//! The keys of clients, and the actions that they protect.

use std::fmt;

/// An action that a key can protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protectable {
    /// Listening on a tag.
    Set,
    /// Sending to one ID.
    Send,
    /// Sending to everyone on a tag.
    Broadcast,
    /// Logging a person out. This always needs a key: if none is configured, it is denied.
    Drop,
}

impl Protectable {
    /// The name in the protocol and in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Send => "send",
            Self::Broadcast => "broadcast",
            Self::Drop => "drop",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Set, Self::Send, Self::Broadcast, Self::Drop]
            .into_iter()
            .find(|action| action.name() == name)
    }
}

/// A key that a client gave. `Debug` prints `***`.
#[derive(Clone)]
pub struct Key(Box<[u8]>);

impl Key {
    /// Creates a key from any text that a client wrote.
    pub(crate) fn given(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    /// The text of the key, to give it to its owner.
    pub(crate) fn reveal(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
