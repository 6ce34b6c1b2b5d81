-- squawk-ignore-file require-concurrent-index-creation
-- Few rows are parked where all is well: the lock is short.
-- What may run next, looked for each second: the first that waits, without reading all that is over.
CREATE INDEX parked_waiting ON parked (consumer, id) WHERE state IN ('held', 'redrive');
-- A stranger reads what became of its own, newest first; and the last of it are counted when one is refused.
CREATE INDEX parked_of_topic ON parked (topic, parked_at DESC, id DESC);
