-- By when a record was said, as far as is known: by the broker's time, with a second since its clock is another, and at
-- the latest when it was read. What its sender has said another way after that is newer, however long the record lay
-- unread or was kept.
CREATE FUNCTION said_at_latest(written_ms bigint) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN least(to_timestamp(written_ms / 1000.0) + interval '1 second' + (app_now() - now()), app_now());

-- None of what was kept before this column: then by `parked_at`.
ALTER TABLE parked ADD COLUMN said_at_latest timestamptz;
