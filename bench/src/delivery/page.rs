//! What the page tells of how this is measured.

use crate::cli::server::DeliveryOptions;
use crate::results::Results;

pub(crate) fn how(options: &DeliveryOptions, results: &Results) -> String {
    format!(
        "- {} rounds with fresh processes and, where there is one, a fresh data directory. Messages \
         are 125 bytes of JSON, and each has a name of its own (`mid`), as those of our clients \
         do.\n\
         - {}; load and server share them.\n\
         - Messages on disk are sent over WebSockets. SQLite syncs every commit; how many senders \
         share one depends on how long it takes. A library that is loaded before the C library \
         makes each sync take a millisecond at least; the figure of this disk stands beside.\n\
         - For what keeping costs, two servers with the same listeners get their messages in turn, \
         one of them with `ring = 0` and `inbox = 0`. The log in memory is part of both: it is a \
         function call.\n\
         - Clients come back without any pause or order. The kernel keeps 4,096 connections until \
         they are accepted and makes the others try again after a second, which is part of the \
         time.\n\
         - For the start, {} messages are published first, and the server is stopped in order.\n",
        options.rounds, results.machine, options.entries
    )
}
