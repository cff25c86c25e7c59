-- The audit log's chain: each entry carries the hash of the one before it in its lane, and its own, over both.
-- Entries that were there before have no link; the first link of their lane is over all of them.
ALTER TABLE audit_log ADD COLUMN link INTEGER;              -- from one, in the order in which they were written
ALTER TABLE audit_log ADD COLUMN previous_hash BLOB;
ALTER TABLE audit_log ADD COLUMN hash BLOB;
CREATE UNIQUE INDEX audit_log_chain ON audit_log (lane, link) WHERE link IS NOT NULL;
