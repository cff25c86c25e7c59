-- The books: what the ledger gave away, as the shop keeps it.
-- Ids and names compare byte by byte (COLLATE "C"), as everywhere else in the product.

CREATE TABLE ledger (
    one  integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    name text NOT NULL
);
COMMENT ON TABLE ledger IS 'the ledger whose books these are';

-- How far each lane's outbox has been digested, and whose the writing of it is.
CREATE TABLE lanes (
    lane         integer PRIMARY KEY,
    epoch        bigint      NOT NULL,
    cursor       bigint      NOT NULL,
    updated_at   timestamptz NOT NULL,
    holder       text,
    leased_until timestamptz
);
COMMENT ON COLUMN lanes.epoch IS 'which life of the lane; a batch has to begin where epoch and cursor stand';
COMMENT ON COLUMN lanes.cursor IS 'number of the last event digested; moved in the transaction that digests';
COMMENT ON COLUMN lanes.holder IS 'the gateway that writes this lane''s books';
COMMENT ON COLUMN lanes.leased_until IS 'when another gateway may, by this server''s clock';

CREATE TABLE sales (
    sale_id    text COLLATE "C" PRIMARY KEY,
    title      text        NOT NULL,
    definition json        NOT NULL,
    created_at timestamptz NOT NULL
);
COMMENT ON COLUMN sales.definition IS 'as it was created';

-- The second line of defence: whatever the ledger says, no more than the stock is ever allocated.
CREATE TABLE items (
    sale_id   text COLLATE "C" NOT NULL REFERENCES sales (sale_id),
    item_id   text COLLATE "C" NOT NULL,
    title     text    NOT NULL,
    price     bigint  NOT NULL,
    currency  text    NOT NULL,
    stock     bigint  NOT NULL CHECK (stock >= 0),
    allocated bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (sale_id, item_id),
    CONSTRAINT no_oversell CHECK (allocated >= 0 AND allocated <= stock)
) WITH (fillfactor = 50);
COMMENT ON COLUMN items.price IS 'of one unit, in minor units';
COMMENT ON COLUMN items.stock IS 'units for sale: as created, restocks, refunds that were not restocked';
COMMENT ON COLUMN items.allocated IS 'units of orders pending or paid';

-- One row per reservation. Room is left on each page, so that a row that changes its status stays there
-- and no index is touched.
CREATE TABLE orders (
    user_id     text COLLATE "C" NOT NULL,
    order_id    uuid        NOT NULL,
    sale_id     text COLLATE "C" NOT NULL,
    status      text        NOT NULL
                CHECK (status IN ('pending_payment', 'paid', 'cancelled', 'expired')),
    version     integer     NOT NULL,
    lines       json        NOT NULL,
    total       bigint      NOT NULL,
    currency    text        NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    payment_ref text,
    PRIMARY KEY (user_id, order_id)
) WITH (fillfactor = 85);
COMMENT ON COLUMN orders.order_id IS 'the reservation''s id';
COMMENT ON COLUMN orders.version IS 'the reservation''s; only ever rises';
COMMENT ON COLUMN orders.lines IS '[{"item_id","quantity","unit_price","currency"}]';
COMMENT ON COLUMN orders.total IS 'in minor units';
COMMENT ON COLUMN orders.created_at IS 'the reservation''s held_at';
COMMENT ON COLUMN orders.expires_at IS 'when its hold runs out, or ran out';
COMMENT ON COLUMN orders.updated_at IS 'its last transition';
COMMENT ON COLUMN orders.payment_ref IS 'the payment that confirmed it';

-- Orders of sales that are over, out of the writer's way: `floodgate sale archive`. One that moves once more
-- comes back.
CREATE TABLE archived_orders (LIKE orders INCLUDING ALL);
CREATE VIEW all_orders AS SELECT * FROM orders UNION ALL SELECT * FROM archived_orders;

CREATE TABLE carts (
    user_id text COLLATE "C" PRIMARY KEY,
    changes bigint NOT NULL
);
COMMENT ON COLUMN carts.changes IS
    'how often users changed their own lines, and the versions of their archived orders; the version of a cart is this plus the versions of the user''s orders';

CREATE TABLE cart_lines (
    user_id        text COLLATE "C" NOT NULL,
    item_id        text COLLATE "C" NOT NULL,
    reservation_id uuid   NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    quantity       bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (user_id, item_id, reservation_id)
);
-- Who waits for an item, when its sale opens; what reservations put in is not in it.
CREATE INDEX cart_lines_of_users ON cart_lines (item_id)
    WHERE reservation_id = '00000000-0000-0000-0000-000000000000';
COMMENT ON COLUMN cart_lines.reservation_id IS
    'the reservation, held or paid, that the line stands for; all zeros: the user''s own';

CREATE TABLE refunds_needed (
    order_id    uuid        NOT NULL,
    payment_ref text        NOT NULL,
    sale_id     text        NOT NULL,
    user_id     text        NOT NULL,
    amount      bigint      NOT NULL,
    currency    text        NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (order_id, payment_ref)
);
COMMENT ON TABLE refunds_needed IS 'payments for units that were no longer there: somebody has to give the money back';
COMMENT ON COLUMN refunds_needed.amount IS 'in minor units';

CREATE TABLE dead_letters (
    lane    integer     NOT NULL,
    epoch   bigint      NOT NULL,
    seq     bigint      NOT NULL,
    events  bigint      NOT NULL,
    at      timestamptz NOT NULL,
    payload bytea       NOT NULL,
    crc     bigint      NOT NULL,
    reason  text        NOT NULL,
    PRIMARY KEY (lane, epoch, seq)
);
COMMENT ON TABLE dead_letters IS 'what could not be digested, each a whole record of the outbox';
COMMENT ON COLUMN dead_letters.seq IS 'of the event, or of the last event of an entry that cannot be read';

CREATE TABLE audit_log (
    lane    integer     NOT NULL,
    seq     bigint      NOT NULL,
    at      timestamptz NOT NULL,
    actor   text        NOT NULL,
    action  text        NOT NULL,
    sale_id text        NOT NULL,
    subject text,
    before  json,
    after   json,
    reason  text,
    PRIMARY KEY (lane, seq)
);
CREATE INDEX audit_log_by_time ON audit_log (at DESC, lane, seq DESC);
COMMENT ON TABLE audit_log IS 'who did what to which sale, when, with the values before and after';
COMMENT ON COLUMN audit_log.lane IS 'of the event; -1 for what was done to the books themselves';
COMMENT ON COLUMN audit_log.subject IS 'the item or the reservation, where there is one';

CREATE TABLE archive (
    lane    integer     NOT NULL,
    seq     bigint      NOT NULL,
    epoch   bigint      NOT NULL,
    events  bigint      NOT NULL,
    at      timestamptz NOT NULL,
    payload bytea       NOT NULL,
    crc     bigint      NOT NULL,
    PRIMARY KEY (lane, seq)
);
COMMENT ON TABLE archive IS 'what was digested of a ledger that can forget, kept whole: from it a lane is written anew';
COMMENT ON COLUMN archive.seq IS 'of the record''s last event';
