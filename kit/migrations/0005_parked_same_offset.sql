-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion, ban-drop-constraint
-- Few rows are parked where all is well: the lock is short.
-- A topic that was made anew, or has lost its end, gives the offset of one record to another, which is no repeat.
ALTER TABLE parked DROP CONSTRAINT parked_each_record_once;
CREATE UNIQUE INDEX parked_each_record_once  -- a record read twice parks once
    ON parked (consumer, topic, partition, "offset", sha256(coalesce(value, '')));
