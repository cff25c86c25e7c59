-- What was digested of a ledger that can forget, kept whole: from it a lane is written anew.
-- Empty where the ledger is embedded, whose journals are never trimmed.
CREATE TABLE archive (
    lane    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,               -- of the record's last event
    epoch   INTEGER NOT NULL,
    events  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    payload BLOB    NOT NULL,
    crc     INTEGER NOT NULL,
    PRIMARY KEY (lane, seq)
) STRICT, WITHOUT ROWID;
