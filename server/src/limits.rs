//! The bounds of everything a client can make the server hold or wait for.

use std::time::Duration;

/// The largest message, in bytes of its JSON text: `too_large` beyond.
pub const MESSAGE: usize = 64 * 1024;
/// The largest WebSocket frame, and the largest message assembled of fragments, in bytes of
/// payload: close 1009 beyond. Larger than [`MESSAGE`], so that a message that is somewhat too
/// large is answered by an error instead of a close.
pub const FRAME: usize = 128 * 1024;
/// The deepest nesting of an action, the outermost object counting as 1.
pub const NESTING: usize = 64;
/// The largest HTTP body, in bytes: 413 beyond.
pub const BODY: usize = 8 * 1024 * 1024;
/// All HTTP bodies together that are being read or worked on, in bytes: 503 beyond.
pub const BODIES: usize = 64 * 1024 * 1024;
/// The inboxes in all answers over HTTP that are not written yet, in bytes: `unavailable` beyond. Of
/// this and of [`BODIES`] each request may have a quarter of what is left.
pub const ANSWERS: usize = 32 * 1024 * 1024;
/// The largest head of an HTTP request, in bytes: 431 beyond.
pub const HEAD: usize = 16 * 1024;
/// The most actions in one `POST`.
pub const BATCH: usize = 1_000;
/// The most tags that one connection listens on.
pub const TAGS_PER_CONNECTION: usize = 32;
/// The most connections under one ID; one more closes the oldest.
pub const CONNECTIONS_PER_ID: usize = 16;
/// Frames of one connection that are appended but not yet answered; further ones wait unread.
pub const IN_FLIGHT: usize = 64;
/// So much of an unfinished message is held for each connection without counting among what waits.
pub const INCOMING: usize = 4 * 1024;
/// The most bytes that wait for one connection's socket: close 4000 beyond.
pub const OUTBOX: usize = 256 * 1024;
/// The most items that wait for one shard; further appends are refused until it has caught up.
pub const SHARD_QUEUE: usize = 64 * 1024;
/// The most bytes of frames that wait for one shard, likewise.
pub const SHARD_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The most entries that wait to be written to disk, and the most bytes of them; further appends
/// are refused until the disk has caught up.
pub const LOG_QUEUE: usize = 16 * 1024;
/// Bytes of entries that wait to be written to disk, likewise.
pub const LOG_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The longest `ref`, in bytes of its JSON text.
pub const REFERENCE: usize = 64;
/// The longest key, in bytes.
pub const KEY: usize = 512;
/// The longest `mid`, in characters.
pub const MID: usize = 128;
/// The longest `ttl`.
pub const TTL: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The most seqs that one `read` names.
pub const READ_AT_ONCE: usize = 1_000;
/// What is pulled of a replay at once, in bytes, when the connection has taken the last piece.
pub const REPLAY_PIECE: usize = 64 * 1024;
/// A replay waits while less than this may wait for one socket, of what is left in all.
pub const REPLAY_LEAST: usize = 4 * 1024;
/// How long a client may take nothing of its replay: close 4000 beyond.
pub const REPLAY_STALL: Duration = Duration::from_secs(30);
/// The most broadcasts that `last` may ask for.
pub const LAST: u64 = 1_000;

/// The request line and headers of an HTTP request must arrive within this time.
pub const HEADERS: Duration = Duration::from_secs(30);
/// The body of an HTTP request must arrive within this time.
pub const REQUEST_BODY: Duration = Duration::from_secs(30);
/// How long a sender over HTTP waits for its entry to be appended.
pub const APPEND: Duration = Duration::from_secs(10);

/// Connections beyond `--max-connections` that may send one request over HTTP and leave, as senders do.
pub const BRIEF: usize = 128;
/// Their request must begin within this time.
pub const BRIEF_HEADERS: Duration = Duration::from_secs(5);
/// Connections that are turned away at a time with patience; further ones are answered at once and
/// closed.
pub const TURNED_AWAY: usize = 64;
/// Open files that are no connections of listeners: listening sockets, administrators, the
/// runtime's own, and those who stay for a moment only.
pub const OTHER_FILES: usize = 128 + BRIEF + TURNED_AWAY;
/// Tags that anyone listens on; registrations on others are refused.
pub const TAGS: usize = 100_000;
/// Registrations on all tags together.
pub const REGISTRATIONS: usize = 2_000_000;
/// The bytes that wait for all sockets together: the less of them is left, the less may wait for
/// each.
pub const BACKLOG: usize = 256 * 1024 * 1024;
