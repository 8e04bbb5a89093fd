//! The limits of everything that a client can make the server store or wait for.

use std::time::Duration;

/// The largest message, in bytes of its JSON text: `too_large` beyond.
pub const MESSAGE: usize = 64 * 1024;
/// The largest WebSocket frame, and the largest message assembled of fragments, in bytes of
/// payload: close 1009 beyond. Larger than [`MESSAGE`], so that a message that is slightly too large
/// gets an error reply instead of a close.
pub const FRAME: usize = 128 * 1024;
/// The deepest nesting of an action, the outermost object counting as 1.
pub const NESTING: usize = 64;
/// The largest HTTP body, in bytes: 413 beyond.
pub const BODY: usize = 8 * 1024 * 1024;
/// All HTTP bodies that are being read or processed, in bytes: 503 beyond.
pub const BODIES: usize = 64 * 1024 * 1024;
/// The inboxes in all HTTP replies that are not written yet, in bytes: `unavailable` beyond. One
/// request may take a quarter of what is left of this and of [`BODIES`].
pub const ANSWERS: usize = 32 * 1024 * 1024;
/// The largest head of an HTTP request, in bytes: 431 beyond.
pub const HEAD: usize = 16 * 1024;
/// The most actions in one `POST`.
pub const BATCH: usize = 1_000;
/// The most tags that one connection listens on.
pub const TAGS_PER_CONNECTION: usize = 32;
/// The most connections under one ID; one more closes the oldest.
pub const CONNECTIONS_PER_ID: usize = 16;
/// The most requests of one connection without a reply; further ones are not read yet.
pub const IN_FLIGHT: usize = 64;
/// The bytes of an unfinished message that do not count in the backlog.
pub const INCOMING: usize = 4 * 1024;
/// The most bytes that wait for one connection's socket: close 4000 beyond.
pub const OUTBOX: usize = 256 * 1024;
/// The most work queued for one shard; further appends are refused until it has caught up.
pub const SHARD_QUEUE: usize = 64 * 1024;
/// The most bytes of frames queued for one shard; further appends are refused beyond that, too.
pub const SHARD_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The most entries that wait to be written to disk; further appends are refused until the disk has
/// caught up.
pub const LOG_QUEUE: usize = 16 * 1024;
/// The most bytes of entries that wait to be written; further appends are refused beyond that, too.
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
/// The size of one piece of a replay, in bytes.
pub const REPLAY_PIECE: usize = 64 * 1024;
/// A replay waits while the share of one outbox in the backlog is smaller than this, in bytes.
pub const REPLAY_LEAST: usize = 4 * 1024;
/// How long a client may read nothing of its replay: close 4000 beyond.
pub const REPLAY_STALL: Duration = Duration::from_secs(30);
/// The most broadcasts that `last` may ask for.
pub const LAST: u64 = 1_000;

/// The request line and headers of an HTTP request must arrive within this time.
pub const HEADERS: Duration = Duration::from_secs(30);
/// The body of an HTTP request must arrive within this time.
pub const REQUEST_BODY: Duration = Duration::from_secs(30);
/// How long a request over HTTP waits for its appends.
pub const APPEND: Duration = Duration::from_secs(10);

/// The most connections beyond `--max-connections`, which may send one request over HTTP and are closed.
pub const BRIEF: usize = 128;
/// The head of their request must arrive within this time.
pub const BRIEF_HEADERS: Duration = Duration::from_secs(5);
/// The most rejected connections whose request is awaited before the 503; further ones get the 503 at
/// once.
pub const REJECTED: usize = 64;
/// File descriptors for everything but the connections of clients: listening sockets,
/// administrators, the runtime, brief and rejected connections.
pub const OTHER_FILES: usize = 128 + BRIEF + REJECTED;
/// The most tags with listeners; registrations on further ones are refused.
pub const TAGS: usize = 100_000;
/// The most registrations on all tags together.
pub const REGISTRATIONS: usize = 2_000_000;
/// The bytes that may wait for all sockets together. The less of it is left, the less may wait for
/// each.
pub const BACKLOG: usize = 256 * 1024 * 1024;
