-- The books: what the ledger gave away, as the shop keeps it.
-- Times are milliseconds since the Unix epoch, money is in minor units, ids are text.

-- One row per lane: how far its outbox has been digested. Moved in the transaction that digests.
CREATE TABLE lanes (
    lane       INTEGER PRIMARY KEY,
    epoch      INTEGER NOT NULL,            -- which life of the lane; a batch has to begin where this stands
    cursor     INTEGER NOT NULL,            -- sequence number of the last event digested
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sales (
    sale_id    TEXT PRIMARY KEY,
    title      TEXT    NOT NULL,
    definition TEXT    NOT NULL,            -- JSON, as it was created
    created_at INTEGER NOT NULL
) STRICT;

-- The second line of defence: whatever the ledger says, no more than `stock` is ever allocated.
CREATE TABLE items (
    sale_id   TEXT    NOT NULL REFERENCES sales (sale_id),
    item_id   TEXT    NOT NULL,
    title     TEXT    NOT NULL,
    price     INTEGER NOT NULL,
    currency  TEXT    NOT NULL,
    stock     INTEGER NOT NULL CHECK (stock >= 0),
    allocated INTEGER NOT NULL DEFAULT 0,   -- units of orders pending or paid
    PRIMARY KEY (sale_id, item_id),
    CHECK (allocated >= 0 AND allocated <= stock)
) STRICT, WITHOUT ROWID;

-- One row per reservation; the id is the reservation's. Clustered by user: the API reads by user,
-- the writer always knows the user, and one tree costs half of a table and an index.
CREATE TABLE orders (
    user_id     TEXT    NOT NULL,
    order_id    TEXT    NOT NULL,
    sale_id     TEXT    NOT NULL,
    -- Not IN (…): for that SQLite builds a table of its own at every insert.
    status      TEXT    NOT NULL CHECK (status = 'pending_payment' OR status = 'paid'
                                        OR status = 'cancelled' OR status = 'expired'),
    version     INTEGER NOT NULL,           -- the reservation's; only ever rises
    lines       TEXT    NOT NULL,           -- JSON: [{"item_id","quantity","unit_price","currency"}]
    total       INTEGER NOT NULL,
    currency    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,           -- the reservation's held_at
    expires_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    payment_ref TEXT,
    PRIMARY KEY (user_id, order_id)
) STRICT, WITHOUT ROWID;

-- How often a user has changed their own lines. The cart's version is this plus the versions of the
-- user's orders: it rises with every change of the cart, whoever made it, and a reservation that
-- fills it costs no row of its own. Whoever removes orders adds their versions here.
CREATE TABLE carts (
    user_id TEXT PRIMARY KEY,
    changes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A line is the user's own (reservation_id = '') or stands for a reservation that is held or paid.
CREATE TABLE cart_lines (
    user_id        TEXT    NOT NULL,
    item_id        TEXT    NOT NULL,
    reservation_id TEXT    NOT NULL DEFAULT '',
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (user_id, item_id, reservation_id)
) STRICT, WITHOUT ROWID;

-- Payments that arrived for units that were no longer there: somebody has to give the money back.
CREATE TABLE refunds_needed (
    order_id    TEXT    NOT NULL,
    payment_ref TEXT    NOT NULL,
    sale_id     TEXT    NOT NULL,
    user_id     TEXT    NOT NULL,
    amount      INTEGER NOT NULL,
    currency    TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (order_id, payment_ref)
) STRICT, WITHOUT ROWID;

-- What the writer could not digest, kept whole, with the reason.
CREATE TABLE dead_letters (
    lane     INTEGER NOT NULL,
    seq      INTEGER NOT NULL,              -- of the event, or of the last event of an unreadable entry
    epoch    INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    payload  BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (lane, epoch, seq)
) STRICT;

-- Who did what to which sale, when, with the values before and after.
CREATE TABLE audit_log (
    lane    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    sale_id TEXT    NOT NULL,
    subject TEXT,                           -- the item or the reservation, where there is one
    before  TEXT,                           -- JSON
    after   TEXT,                           -- JSON
    reason  TEXT,
    PRIMARY KEY (lane, seq)
) STRICT;
