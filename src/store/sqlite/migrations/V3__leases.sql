-- Who writes a lane's books at the moment, and until when by this machine's clock.
ALTER TABLE lanes ADD COLUMN holder TEXT;
ALTER TABLE lanes ADD COLUMN leased_until INTEGER;

-- A dead letter is a whole record of the outbox, so that it can be checked and tried again.
ALTER TABLE dead_letters ADD COLUMN events INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;

-- The ledger whose books these are.
CREATE TABLE ledger (
    one  INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    name TEXT NOT NULL
) STRICT;

-- Who waits for an item, when its sale opens; what reservations put in is not in it.
CREATE INDEX cart_lines_of_users ON cart_lines (item_id) WHERE reservation_id = '';

-- Orders of sales that are over, out of the writer's way: `floodgate sale archive`. One that moves once more
-- comes back. Columns as in `orders`.
CREATE TABLE archived_orders (
    user_id     TEXT    NOT NULL,
    order_id    TEXT    NOT NULL,
    sale_id     TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    lines       TEXT    NOT NULL,
    total       INTEGER NOT NULL,
    currency    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    payment_ref TEXT,
    PRIMARY KEY (user_id, order_id)
) STRICT, WITHOUT ROWID;
CREATE VIEW all_orders AS SELECT * FROM orders UNION ALL SELECT * FROM archived_orders;
