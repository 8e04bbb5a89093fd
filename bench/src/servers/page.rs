//! What the page tells of how servers are measured.

use crate::cli::server::ServerOptions;
use crate::machine;
use crate::results::Results;

pub(crate) fn how(options: &ServerOptions, results: &Results) -> String {
    format!(
        "- {} rounds, in each of which every program is started afresh for every kind of figure. \
         Messages are 125 bytes of JSON.\n\
         - {}; load and server share them. Node is {}.\n\
         - All listeners are one thread with one `epoll`, which counts frames and looks at the \
         time in every seventh listener's messages. The program fails when any listener misses a \
         message or gets one twice, when a peer is missing, and at any other error.\n\
         - uWebSockets and ws are programs of a few lines for Node (`bench/peers`) that answer each \
         join with a small JSON object, as our server does, and pass broadcasts on to the tag's \
         listeners as their documentation shows. nchan has a worker per core and hands the newest \
         message of the channel to whoever joins. The floor writes to each listener's socket in \
         turn, blocking, and does nothing else: one system call for each delivery.\n\
         - Messages are published over one WebSocket that stays open, and over `POST` for nchan, \
         which takes nothing else. Bursts come in one write.\n\
         - CPU is what the kernel counted for the program's processes, that of the receiving side \
         of the loopback interface included; waking the load's thread is part of it for all of \
         them. nchan uses every core, the others but ours one. Our server begins with \
         one thread and uses another once that is busy or has 8,192 connections more; so it serves \
         2,000 listeners on one core, and spreads 10,000.\n",
        options.rounds,
        results.machine,
        machine::version_of("node".as_ref())
    )
}
