//! Every bound of the gateway in one place, tied together by assertions that say why.
//!
//! What happens when a bound is reached stands beside it. A bound that an operator may want to move
//! is a setting whose default is here; the others are part of what the product is.

/// Longest sale or item id, in bytes. A longer one is malformed.
pub const ID_BYTES_MAX: usize = 64;
/// Longest user id, in bytes (contract §2). A longer one is malformed.
pub const USER_ID_BYTES_MAX: usize = 128;
/// Longest `Idempotency-Key`, in bytes, without its quotes. A longer one is malformed.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Longest payment reference, in bytes. A longer one is malformed.
pub const PAYMENT_REF_BYTES_MAX: usize = 255;
/// Longest title of a sale or item, in bytes. A longer one is a fault of the sale file.
pub const TITLE_BYTES_MAX: usize = 200;
/// Longest reason of a restock, in bytes. A longer one is malformed.
pub const REASON_BYTES_MAX: usize = 500;
/// Request ids from outside that are longer are replaced by one of our own.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// Items a sale can have. More is a fault of the sale file.
pub const ITEMS_PER_SALE_MAX: usize = 1_000;
/// Lines a reservation can have. More is malformed.
pub const LINES_PER_RESERVATION_MAX: usize = 16;
/// Sales one lane can know. One more is refused; finished campaigns belong in a data dir of their own.
pub const SALES_PER_LANE_MAX: usize = 10_000;
/// Units an item can have, restocks included.
pub const STOCK_MAX: u64 = 1_000_000_000;
/// Units one line can ask for where the sale sets no limit.
pub const QUANTITY_MAX: u32 = 1_000_000;
/// Price of a unit, in minor units.
pub const PRICE_MAX: u64 = 100_000_000_000;
/// Longest hold, in seconds: a day.
pub const HOLD_SECONDS_MAX: u32 = 86_400;
/// Payments remembered per reservation that came too late. Further ones are answered, but not told again.
pub const LATE_PAYMENTS_MAX: usize = 8;

/// Request body, in bytes. A larger one gets 413 (contract §3).
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a body that is too large that are taken from the wire and thrown away, so that the client
/// gets to read its 413. A larger one is cut.
pub const BODY_DISCARD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Buffer of a connection, in bytes, one for reading and one for writing: bounds the request head. A
/// body passes through it in pieces.
pub const CONNECTION_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// A connection that is kept alive and has been silent for so long gives these buffers back; with its next
/// byte it has them again.
pub const REST_MS: u64 = 1_000;
/// What the kernel keeps of answers that a peer has not taken, in bytes. It counts its own costs in, and so
/// takes up to twice as many.
pub const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Request headers. More get 431.
pub const HEADERS_MAX: usize = 64;
/// Request target, in bytes. A longer one gets 414.
pub const URI_BYTES_MAX: usize = 2 * 1024;
/// Open connections of the public listener, unless `http.connections_max` says otherwise or the process
/// has fewer descriptors. Above it new ones wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Open connections that a configuration may want, in all and of one address.
pub const CONNECTIONS_SETTING_MAX: usize = 1_000_000;
/// Open connections of one address (IPv6: of one /64), unless `http.connections_per_address` says
/// otherwise. One more is closed at once. Trusted proxies are not counted.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// A connection ends with so many answers, unless `http.connection_requests` says otherwise.
pub const CONNECTION_REQUESTS_MAX: u64 = 1_000;
/// A connection ends with its first answer after this, unless `http.connection_ms` says otherwise.
pub const CONNECTION_MS: u64 = 120_000;
/// After that, and a silence of `http.idle_ms`, a connection that does not end is cut after this.
pub const CONNECTION_LAST_MS: u64 = 60_000;
/// Descriptors that are left for files, journals, timers and links to other servers, beside those that
/// the configuration counts.
pub const DESCRIPTORS_RESERVED: usize = 96;
/// Each embedded lane has so many.
pub const DESCRIPTORS_PER_LANE: usize = 8;
/// Each runtime has so many: what it waits with and is woken by.
pub const DESCRIPTORS_PER_RUNTIME: usize = 4;
/// Threads that serve buyers, each with a runtime of its own.
pub const RUNTIMES_MAX: usize = 1_024;
/// Of the descriptors for connections the ops listener gets one in so many, as long as it has not all
/// that it may.
pub const OPS_SHARE: usize = 8;
/// Request body of the ops listener, in bytes: a sale with many items is larger than a purchase.
pub const OPS_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Open connections of the ops listener.
pub const OPS_CONNECTIONS_MAX: usize = 256;
/// Kernel backlog of a listener.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// A connection that has not sent a whole request head in this time, from the head's first byte or from
/// its own begin, is closed. `http.head_ms` says otherwise.
pub const HEAD_READ_MS: u64 = 5_000;
/// A connection on which no further request begins in this time is closed. `http.idle_ms` says otherwise.
pub const IDLE_MS: u64 = 15_000;
/// A body that has not arrived whole in this time gets 408. `http.body_ms` says otherwise for buyers.
pub const BODY_READ_MS: u64 = 3_000;
/// `http.head_ms` and `http.body_ms` at most.
pub const REQUEST_READ_MS_MAX: u64 = 9_000;
/// Any `http.*_ms` at least, and the others at most.
pub const TIMEOUT_MS_MIN: u64 = 100;
/// See [`TIMEOUT_MS_MIN`].
pub const TIMEOUT_MS_MAX: u64 = 86_400_000;
/// A client that has said its end while its request is under way may wait for the answer, or have gone. After
/// so long it has gone: what it asked for is not begun any more.
pub const HALF_CLOSED_MS: u64 = 100;
/// A connection that we end still takes what comes for so long, and so many bytes of it.
pub const LINGER_MS: u64 = 500;
/// See [`LINGER_MS`].
pub const LINGER_BYTES_MAX: usize = 256 * 1024;
/// A request that the ledger has not answered in this time gets `outcome-unknown`.
pub const LEDGER_REPLY_MS: u64 = 2_000;
/// A request that the store has not answered in this time gets `overloaded`.
pub const STORE_REPLY_MS: u64 = 2_000;
/// Changes of a gateway that wait for the audit log. Of one more only the log tells.
pub const NOTES_MAX: usize = 256;
/// Between two tries to write one of them.
pub const NOTES_RETRY_MS: u64 = 1_000;
/// A peer that has taken nothing of what is sent to it for this time is cut off. `http.write_stall_ms` says
/// otherwise.
pub const WRITE_STALL_MS: u64 = 5_000;
/// Connections that are still busy this long after SIGTERM are cut.
pub const DRAIN_MS: u64 = 10_000;
/// Before that, a connection that is kept alive has so long to ask once more, and is told with the answer
/// that it ends: in milliseconds.
pub const DRAIN_LINGER_MS: u64 = 500;
/// HTTP/2: requests of a connection at a time. One more is refused.
pub const HTTP2_STREAMS_MAX: u32 = 64;
/// HTTP/2: requests that a peer gave up before they were looked at. With one more the connection ends.
pub const HTTP2_PENDING_RESETS_MAX: usize = 20;
/// HTTP/2: requests that were given up for a peer's faults. With one more the connection ends.
pub const HTTP2_ERROR_RESETS_MAX: usize = 256;
/// HTTP/2: headers of a request, in bytes, unpacked. More get 431.
pub const HTTP2_HEADER_LIST_BYTES_MAX: u32 = 8 * 1024;
/// HTTP/2: bytes of bodies that may be on their way, of a request and of a connection.
pub const HTTP2_WINDOW_BYTES: u32 = 64 * 1024;
/// HTTP/2: bytes of an answer that wait for its window.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2: a peer is asked this often whether it lives, and has so long to say so.
pub const HTTP2_PING_MS: u64 = 20_000;
/// See [`HTTP2_PING_MS`].
pub const HTTP2_PONG_MS: u64 = 10_000;
/// A TLS handshake that takes longer is given up.
pub const TLS_HANDSHAKE_MS: u64 = 5_000;
/// TLS handshakes at a time, from the client's first message on. Others wait, as long as a handshake may
/// take.
pub const TLS_HANDSHAKES_MAX: usize = 256;
/// Longest header of the PROXY protocol, in bytes. With a longer one the connection is closed.
pub const PROXY_HEADER_BYTES_MAX: usize = 1_024;
/// Log lines that wait to be written. Further ones are dropped and counted.
pub const LOG_LINES_WAITING_MAX: usize = 8_192;
/// Longest log line, in bytes. A longer one is cut, in JSON replaced by a note.
pub const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// Accept errors that mean "out of descriptors" are waited out this long: the first and the longest
/// pause.
pub const ACCEPT_BACKOFF_MS: (u64, u64) = (10, 200);
/// They are logged this often at most.
pub const ACCEPT_LOG_MS: u64 = 1_000;

/// Requests that wait for a lane. One more gets `overloaded` at once.
pub const LANE_INBOX: usize = 8_192;
/// Requests that one lane batch carries. The rest waits for the next.
pub const LANE_BATCH_MAX: usize = 512;
/// Holds that one batch expires; the rest is due in the next batch, which follows at once.
pub const SWEEP_MAX: usize = 512;
/// Reservations of one deadline that Redis keeps in one member of its set.
pub const DUE_IDS_MAX: usize = 64;
/// A lane whose last batch had so many commands lets the next one gather.
pub const LANE_CROWD: usize = 8;
/// For so long. A lane with less to do never waits.
pub const LANE_GATHER_US: u64 = 300;
/// The same for a worker of a lane in Redis: from how many commands on, and for how long. With fewer than
/// this a pause would keep itself up at half of what a lane can do, and people waiting.
pub const REDIS_CROWD: usize = 16;
/// See [`REDIS_CROWD`].
pub const REDIS_GATHER_US: u64 = 700;
/// An idle lane looks at its clock this often, in milliseconds.
pub const LANE_IDLE_MS: u64 = 250;
/// Waiting for a connection to Redis.
pub const REDIS_CONNECT_MS: u64 = 1_000;
/// Waiting for one answer of Redis. Beyond it the outcome is unknown, and is asked for again.
pub const REDIS_CALL_MS: u64 = 500;
/// Fields of a lane in which it keeps the last calls of its callers, so that a call that is made again is known. Many
/// more than there are callers: two that have one field forget each other's calls.
pub const REDIS_CALL_FIELDS: u64 = 65_536;
/// Asking again ends after this. Below [`LEDGER_REPLY_MS`].
pub const REDIS_ANSWER_MS: u64 = 1_500;
/// Waiting for a Redis to make its append-only file anew, before its lane is left alone again; and how
/// often it is looked at, in milliseconds.
pub const REDIS_REWRITE_MS: u64 = 250;
/// See [`REDIS_REWRITE_MS`].
pub const REDIS_REWRITE_LOOK_MS: u64 = 5;
/// Waiting for replicas, in one `WAIT`. Beyond it the outcome is unknown.
pub const REDIS_WAIT_MS: u64 = 400;
/// A lane that could not be opened is left alone for so long: the first time and the longest, in
/// milliseconds.
pub const REDIS_BACKOFF_MS: (u64, u64) = (8, 250);
/// A gateway asks a lane for its sales, for holds that ran out and for what other gateways granted, this
/// often.
pub const REDIS_TICK_MS: u64 = 50;
/// What a gateway knows of other gateways' winners counts for so long after it asked.
pub const REDIS_KNOWN_MS: u64 = 200;
/// Entries of the outbox, or records, that it then reads at once.
pub const FOLLOW_PAGE: usize = 500;
/// A gateway that cannot open every lane in this time does not start.
pub const REDIS_OPEN_MS: u64 = 30_000;
/// Connections to a lane besides those that serve: one watches it, one reads its outbox.
pub const REDIS_CONNECTIONS_BESIDE: usize = 2;
/// Calls of a lane that may be under way at once.
pub const REDIS_IN_FLIGHT_MAX: usize = 16;
/// Whoever brings a lane back and is silent for so long is followed by another.
pub const RECOVERY_LEASE_MS: u64 = 5_000;
/// Values in one write of a recovery, and entries in one read.
pub const RECOVERY_PAGE: usize = 1_000;
/// A backend whose calls fail so often in a row, ...
pub const BREAKER_FAILURES: u64 = 5;
/// ... over so long, in milliseconds, is asked no more.
pub const BREAKER_FAILING_MS: u64 = 500;
/// After this it is tried with one call, and again after each that fails, in milliseconds.
pub const BREAKER_PAUSE_MS: u64 = 500;
/// A store that says only after so long that it has no time was waited for in vain.
pub const BREAKER_SLOW_MS: u64 = 1_000;
/// Lanes of one data dir.
pub const LANES_MAX: u16 = 256;

/// Outbox records that the writer digests in one transaction.
pub const WRITER_RECORDS_MAX: usize = 1_024;
/// Events that the writer digests in one transaction, unless a single record has more: at first, at
/// least and at most, as quickly as the store digests them.
pub const WRITER_EVENTS_FIRST: usize = 2_048;
/// See [`WRITER_EVENTS_FIRST`].
pub const WRITER_EVENTS_MIN: usize = 128;
/// See [`WRITER_EVENTS_FIRST`].
pub const WRITER_EVENTS_MAX: usize = 8_192;
/// A full transaction that takes less makes the next one larger; one that takes more, smaller. In
/// milliseconds.
pub const WRITER_PACE_MS: (u64, u64) = (250, 2_000);
/// A writer that is silent for so long is followed by another gateway's.
pub const WRITER_LEASE_MS: u64 = 5_000;
/// A gateway looks this often how far the writer of another is.
pub const WRITER_FOLLOW_MS: u64 = 100;
/// A batch that the store refuses is tried so often before its events are taken one by one, and those
/// that it refuses alone are put aside.
pub const WRITER_TRIES: u32 = 5;
/// Between two transactions the writer lets events gather for so long, unless buyers wait for it
/// (durability `stored`): a transaction costs much, an event in it little.
pub const WRITER_GATHER_MS: u64 = 20;
/// After the last connection is gone the writer goes on draining this long, in milliseconds.
pub const WRITER_DRAIN_MS: u64 = 5_000;
/// The writer looks for entries this often when no bell has rung, in milliseconds.
pub const WRITER_IDLE_MS: u64 = 250;
/// Waits between tries of a writer whose store fails: from the first to the longest, in milliseconds.
pub const WRITER_BACKOFF_MS: (u64, u64) = (50, 5_000);
/// A new reservation that would have to wait longer for its lane gets `overloaded` at once, unless the
/// configuration says otherwise.
pub const BACKLOG_MS: u64 = 250;
/// And what it may say: nobody waits longer than this for an answer.
pub const BACKLOG_MS_MAX: u64 = LEDGER_REPLY_MS;
/// Events between the ledger and the store. Above it new reservations are refused as `overloaded`.
pub const BACKLOG_EVENTS_MAX: u64 = 2_000_000;

/// Rates that a token bucket can have, a second: the least and the most.
pub const ADMISSION_RATES: (f64, f64) = (0.000_1, 1_000_000.0);
/// Tokens that a bucket can hold.
pub const ADMISSION_BURST_MAX: u32 = 1_000_000;
/// An empty bucket is full again in this time at the latest: a day.
pub const ADMISSION_WINDOW_SECONDS_MAX: u64 = 86_400;
/// Keys (users, addresses, sales) that one limit remembers. Buckets that are full again are forgotten
/// first; beyond it new keys share buckets.
pub const ADMISSION_KEYS_MAX: usize = 500_000;
/// Users that a lane in Redis remembers for `admission.per_user_shared`, in a turn of
/// [`RATE_TURN_MS`] or of the time in which an empty bucket is full again, if that is longer; and as many of the
/// turn before. Beyond that those who are new are limited by each gateway alone.
pub const RATE_USERS_MAX: usize = 100_000;
/// The shortest turn.
pub const RATE_TURN_MS: u64 = 1_000;
/// Buckets that are full again are forgotten this often.
pub const ADMISSION_SWEEP_MS: u64 = 1_000;
/// Longest wait for a token that can be configured (`admission.smooth_max_ms`).
pub const SMOOTH_MS_MAX: u64 = 5_000;
/// Requests that wait for their tokens. One more is refused as if none came in time.
pub const SMOOTH_WAITING_MAX: usize = 10_000;
/// Tries for a token that others take away at the same time.
pub const SMOOTH_ROUNDS_MAX: usize = 64;
/// Hops of `Forwarded` or `X-Forwarded-For` that are looked at, from the right. A longer chain of
/// trusted proxies is taken for a broken header.
pub const FORWARDED_HOPS_MAX: usize = 32;

/// Lines of their own that users can have in a cart, and units that one of them can have. More is
/// refused. Lines of reservations come on top, bounded by the limits of their sales.
pub const CART_LINES_MAX: usize = 100;
/// See [`CART_LINES_MAX`].
pub const CART_QUANTITY_MAX: u32 = 999;
/// For so long a cart tells of lines that left it because their hold ran out; of the latest so many.
pub const CART_GONE_MS: u64 = 3_600_000;
/// See [`CART_GONE_MS`].
pub const CART_GONE_MAX: usize = 16;
/// Carts that a gateway keeps in memory. Those that nobody asked for lately make room.
pub const CARTS_CACHED: u64 = 100_000;
/// A cart is read again after this, whatever gateways tell each other, in milliseconds.
pub const CART_CACHE_MS: u64 = 60_000;
/// How often a gateway looks for sales that are about to open, in milliseconds.
pub const CART_WARM_MS: u64 = 1_000;
/// Carts that are read into memory when a sale opens.
pub const CARTS_WARMED: usize = 10_000;
/// Bytes of answers that are kept for when ledger or books are not asked. Those that nobody asked for
/// lately make room.
pub const ANSWERS_KEPT_BYTES: u64 = 32 * 1024 * 1024;
/// For so long, in milliseconds.
pub const ANSWERS_KEPT_MS: u64 = 600_000;
/// Orders in one answer of `GET /v1/orders`; the rest is on the next page.
pub const ORDERS_PAGE_MAX: usize = 100;
/// Entries in one answer of `GET /admin/v1/audit-log`; the rest is on the next page.
pub const AUDIT_LOG_PAGE_MAX: usize = 500;
/// Entries in one answer of `GET /admin/v1/dead-letters`; the rest is on the next page.
pub const DEAD_LETTERS_PAGE_MAX: usize = 100;
/// Waiting for a connection to PostgreSQL to be made.
pub const STORE_CONNECT_MS: u64 = 3_000;
/// And for the server's first words on it.
pub const STORE_GREETING_MS: u64 = 1_000;
/// Waiting for a connection of the pool to be free. Beyond it the answer is `overloaded`.
pub const STORE_WAIT_MS: u64 = 1_500;
/// One transaction of PostgreSQL, its statements and its locks included. What takes longer is given up
/// on both sides, and the connection is closed.
pub const STORE_CALL_MS: u64 = 4_000;
/// A gateway that starts waits so long for another that brings the tables up to date.
pub const STORE_MIGRATE_MS: u64 = 60_000;
/// For so long a gateway that starts asks a database again that is not ready.
pub const STORE_START_MS: u64 = 15_000;
/// Between two of these tries.
pub const STORE_START_RETRY_MS: u64 = 500;
/// Connections that a configuration may want for what is asked of PostgreSQL.
pub const STORE_CONNECTIONS_MAX: usize = 256;
/// Connections for the writers of all lanes, and for what the product itself asks.
pub const STORE_WRITERS: usize = 6;
/// Orders that one request moves into the archive; the next one moves more.
pub const ARCHIVE_AT_ONCE: usize = 5_000;
/// Faults of the books that one `reconcile --repair` mends; the next one mends more.
pub const MENDS_MAX: usize = 100_000;
/// Of those, so many in one transaction.
pub const MENDS_AT_ONCE: usize = 500;
/// Jobs that wait for a connection of the store. One more is answered `overloaded`.
pub const STORE_QUEUE: usize = 1_024;

/// A buyer's token, in bytes. A longer one is not looked at.
pub const JWT_BYTES_MAX: usize = 8 * 1024;
/// A shorter secret of HS256 is weaker than its hash.
pub const JWT_SECRET_BYTES_MIN: usize = 32;
/// How far the clock of whoever issues tokens may be off, unless configured.
pub const JWT_LEEWAY_SECONDS: u64 = 30;
/// And at most.
pub const JWT_LEEWAY_SECONDS_MAX: u64 = 300;
/// A file of keys, in bytes.
pub const JWT_KEYS_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Keys in it. A file with more is refused.
pub const JWT_KEYS_MAX: usize = 64;
/// Keys without an id: each is tried, so that a made-up token costs as many verifications.
pub const JWT_UNNAMED_KEYS_MAX: usize = 4;
/// The modulus of an RSA key, in bytes: least and most.
pub const JWT_RSA_BYTES: (usize, usize) = (256, 1_024);
/// Tokens that a gateway has verified and remembers. Those that nobody showed lately make room.
pub const JWT_CACHED: u64 = 100_000;
/// Names of admin tokens, in bytes.
pub const ADMIN_NAME_BYTES_MAX: usize = 64;
/// Admin tokens in a file. A file with more is refused: each request is compared with all.
pub const ADMIN_TOKENS_MAX: usize = 100;
/// The file of admin tokens, in bytes.
pub const ADMIN_TOKENS_FILE_BYTES_MAX: u64 = 64 * 1024;

const _: () = assert!(
    JWT_BYTES_MAX < CONNECTION_BUFFER_BYTES_MAX,
    "a token of legal size arrives in one request head"
);
const _: () = assert!(CONNECTION_BUFFER_BYTES_MAX >= 8 * 1024, "hyper takes no smaller buffer");
const _: () = assert!(
    CONNECTION_BUFFER_BYTES_MAX >= 4 * URI_BYTES_MAX,
    "a target of legal length leaves room for headers"
);
const _: () = assert!(
    (PRICE_MAX as u128) * (QUANTITY_MAX as u128) * (LINES_PER_RESERVATION_MAX as u128)
        <= i64::MAX as u128,
    "the total of the dearest reservation fits the store's integers"
);
const _: () =
    assert!(LANE_INBOX > LANE_BATCH_MAX, "what arrives while a batch is written must find room");
const _: () = assert!(
    STORE_CALL_MS < WRITER_LEASE_MS,
    "a transaction that is slow is given up before its lease is another's"
);
const _: () = assert!(
    LEDGER_REPLY_MS < DRAIN_MS,
    "a request that was read before the drain began is answered before its connection is cut"
);
const _: () = assert!(
    REQUEST_READ_MS_MAX < DRAIN_MS,
    "a head or body that never ends does not hold up the drain to its limit"
);
const _: () = assert!(
    HEAD_READ_MS <= REQUEST_READ_MS_MAX && BODY_READ_MS <= REQUEST_READ_MS_MAX,
    "the defaults are within their bounds"
);
const _: () = assert!(
    SMOOTH_MS_MAX + LEDGER_REPLY_MS < DRAIN_MS,
    "a request that waits for its token is answered before its connection is cut"
);
