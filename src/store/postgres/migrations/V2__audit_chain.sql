-- The audit log's chain: each entry carries the hash of the one before it in its lane, and its own, over both.
-- Entries that were there before have no link; the first link of their lane is over all of them.
ALTER TABLE audit_log
    ADD COLUMN link          bigint,
    ADD COLUMN previous_hash bytea,
    ADD COLUMN hash          bytea;
CREATE UNIQUE INDEX audit_log_chain ON audit_log (lane, link) WHERE link IS NOT NULL;
COMMENT ON COLUMN audit_log.link IS 'place in the chain of the lane, from one, in the order in which entries were written';
COMMENT ON COLUMN audit_log.previous_hash IS 'of the link before; for the first, over what stands in front of the chain';
COMMENT ON COLUMN audit_log.hash IS 'over the entry and previous_hash';
