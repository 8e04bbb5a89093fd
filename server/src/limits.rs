//! The limits of everything that a client can make the server store or wait for. Most entries name
//! the reply, HTTP status or close code for a client that exceeds the limit.

use std::time::Duration;

/// The largest message, in bytes of its JSON text. The reply to a larger one is `too_large`.
pub const MESSAGE: usize = 64 * 1024;
/// The largest WebSocket frame, and the largest message joined from fragments, in bytes of payload.
/// A larger one closes the connection with 1009. This limit exceeds [`MESSAGE`], so that a message
/// that is slightly too large gets an error reply and not a close.
pub const FRAME: usize = 128 * 1024;
/// The deepest nesting of an action. The outermost object counts as 1.
pub const NESTING: usize = 64;
/// The largest HTTP body, in bytes. The answer to a larger one is 413.
pub const BODY: usize = 8 * 1024 * 1024;
/// The most bytes of all HTTP bodies that are read or processed at the same time. The answer to a
/// further body is 503.
pub const BODIES: usize = 64 * 1024 * 1024;
/// The most bytes of the inboxes in all HTTP replies that are not written yet. A further inbox is
/// refused with `unavailable`. One request may take a quarter of the bytes that are left of this
/// and of [`BODIES`].
pub const ANSWERS: usize = 32 * 1024 * 1024;
/// The largest head of an HTTP request, in bytes. The answer to a larger one is 431.
pub const HEAD: usize = 16 * 1024;
/// The most actions in one `POST`.
pub const BATCH: usize = 1_000;
/// The most tags that one connection listens on.
pub const TAGS_PER_CONNECTION: usize = 32;
/// The most connections under one ID. A further connection closes the oldest.
pub const CONNECTIONS_PER_ID: usize = 16;
/// The most requests of one connection without a reply. Further requests are not read until the
/// next reply is written.
pub const IN_FLIGHT: usize = 64;
/// An unfinished message counts in the backlog only if it takes more bytes than this.
pub const INCOMING: usize = 4 * 1024;
/// The most bytes that wait for one connection's socket. Beyond that, the connection is closed with
/// code 4000.
pub const OUTBOX: usize = 256 * 1024;
/// The most deliveries and other jobs queued for one shard. Further appends are refused until the
/// shard has caught up.
pub const SHARD_QUEUE: usize = 64 * 1024;
/// The most bytes of frames queued for one shard. Further appends are refused until the shard has
/// caught up.
pub const SHARD_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The most entries that wait until the disk or NATS has stored them. Further appends are refused
/// until fewer wait.
pub const LOG_QUEUE: usize = 16 * 1024;
/// The most bytes of entries that wait until the disk or NATS has stored them. Further appends are
/// refused until fewer wait.
pub const LOG_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// The longest `ref`, in bytes of its JSON text.
pub const REFERENCE: usize = 64;
/// The longest key, in bytes.
pub const KEY: usize = 512;
/// The longest `mid`, in characters.
pub const MID: usize = 128;
/// The longest `ttl`.
pub const TTL: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The most seqs in one `read`.
pub const READ_AT_ONCE: usize = 1_000;
/// The largest piece of a replay, in bytes.
pub const REPLAY_PIECE: usize = 64 * 1024;
/// The smallest piece of a replay, in bytes. A replay waits while the outbox's share of the backlog
/// is smaller.
pub const REPLAY_LEAST: usize = 4 * 1024;
/// How long a client may read nothing of its replay. After that, the connection is closed with code
/// 4000.
pub const REPLAY_STALL: Duration = Duration::from_secs(30);
/// The most broadcasts that `last` may ask for.
pub const LAST: u64 = 1_000;

/// The request line and headers of an HTTP request must arrive within this time.
pub const HEADERS: Duration = Duration::from_secs(30);
/// The body of an HTTP request must arrive within this time.
pub const REQUEST_BODY: Duration = Duration::from_secs(30);
/// How long an HTTP request waits for its appends. After that, the reply is `unavailable`.
pub const APPEND: Duration = Duration::from_secs(10);

/// The most connections beyond `--max-connections`. Each of them may send one HTTP request and is
/// then closed.
pub const BRIEF: usize = 128;
/// The head of a request on a connection beyond `--max-connections` must arrive within this time.
pub const BRIEF_HEADERS: Duration = Duration::from_secs(5);
/// The most rejected connections whose request is read before the answer 503. Further ones get the
/// 503 at once.
pub const REJECTED: usize = 64;
/// The file descriptors for all but the admitted connections of clients: listening sockets,
/// administrators, the runtime, and the connections of [`BRIEF`] and [`REJECTED`].
pub const OTHER_FILES: usize = 128 + BRIEF + REJECTED;
/// The most tags with listeners. Registrations on further tags are refused.
pub const TAGS: usize = 100_000;
/// The most registrations on all tags together.
pub const REGISTRATIONS: usize = 2_000_000;
/// The most bytes that wait for all sockets together. The fewer of them are left, the fewer may
/// wait for each socket.
pub const BACKLOG: usize = 256 * 1024 * 1024;
