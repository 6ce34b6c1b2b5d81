-- What must be so in every service's database. Each rule: a heading, and a statement that gives one row.
-- V3: what was said of one thing is numbered without a gap
SELECT count(*) AS looked, count(*) FILTER (WHERE gap) AS wrong, min(aggregate) FILTER (WHERE gap) AS example
FROM (
    SELECT aggregate, max(seq) - min(seq) + 1 <> count(*) AS gap FROM outbox GROUP BY aggregate, epoch
) AS numbered;

-- V3: the last number that was given is the last that was said
SELECT count(*) AS looked, count(*) FILTER (WHERE last <> seq) AS wrong,
       min(aggregate) FILTER (WHERE last <> seq) AS example
FROM (
    SELECT given.aggregate, given.seq, max(said.seq) AS last
    FROM outbox_sequence given JOIN outbox said USING (aggregate, epoch)  -- what is older than 14 days is gone
    GROUP BY given.aggregate, given.epoch, given.seq
) AS numbers;

-- V14: nothing has waited for its topic for more than a minute, unless it is just being published again
SELECT count(*) AS looked, count(*) FILTER (WHERE waits) AS wrong, min(event_id::text) FILTER (WHERE waits) AS example
FROM (
    SELECT event_id, published_at IS NULL AND created_at < app_now() - interval '1 minute' AS waits FROM outbox
) AS said;

-- V5: each consumer has heard each event once
SELECT coalesce(sum(times), 0)::bigint AS looked, count(*) FILTER (WHERE times > 1) AS wrong,
       min(consumer || ' ' || event_id) FILTER (WHERE times > 1) AS example
FROM (SELECT consumer, event_id, count(*) AS times FROM inbox GROUP BY consumer, event_id) AS heard;

-- V5: nothing is held back behind a record that is over
SELECT count(*) AS looked, count(*) FILTER (WHERE forgotten) AS wrong, min(id::text) FILTER (WHERE forgotten) AS example
FROM (
    SELECT id, parked_at < app_now() - interval '1 minute' AND NOT EXISTS (
        SELECT FROM parked before
        WHERE before.consumer = held.consumer AND before.topic = held.topic AND before.key = held.key
          AND before.id < held.id AND before.state IN ('parked', 'held', 'redrive')
    ) AND NOT EXISTS (  -- what is kept until its sender is let go on, waits for that
        SELECT FROM parked kept
        WHERE kept.consumer = held.consumer AND kept.topic = held.topic AND kept.state = 'held'
          AND kept.reason NOT IN ('held', 'behind')
    ) AS forgotten
    FROM parked held WHERE state = 'held'
) AS waiting;

-- V11: each answer that was kept for an Idempotency-Key is whole
SELECT count(*) AS looked, count(*) FILTER (WHERE status IS NULL OR body IS NULL) AS wrong,
       min(route) FILTER (WHERE status IS NULL OR body IS NULL) AS example
FROM idempotency;
