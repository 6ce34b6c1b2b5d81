-- What must be so of seats and lines. Each rule: a heading, and a statement that gives one row.
-- V6: at each place as many seats are taken as people sit there, and no more than there are
SELECT count(*) AS looked, count(*) FILTER (WHERE bad) AS wrong, min(place) FILTER (WHERE bad) AS example
FROM (
    SELECT p.offering_id || ' ' || p.arena AS place,
           p.taken <> count(e.id) OR p.taken > p.capacity OR p.capacity <> greatest(p.wanted_capacity, p.taken) AS bad
    FROM places p
    LEFT JOIN enrolments e ON e.offering_id = p.offering_id AND e.place = p.arena
        AND e.state IN ('associated', 'offered', 'reserved')
    GROUP BY p.offering_id, p.arena
) AS counted;

-- V6: nobody has two seats, or stands twice in line, in one offering
SELECT coalesce(sum(times), 0)::bigint AS looked, count(*) FILTER (WHERE times > 1) AS wrong,
       min(offering_id || ' ' || learner_id) FILTER (WHERE times > 1) AS example
FROM (
    SELECT offering_id, learner_id, count(*) AS times FROM enrolments
    WHERE state IN ('pending', 'queued', 'offered', 'reserved', 'associated') GROUP BY offering_id, learner_id
) AS live;

-- V6: no seat was ever given back that had not been taken
SELECT count(*) AS looked, count(*) FILTER (WHERE taken < 0) AS wrong, min(place) FILTER (WHERE taken < 0) AS example
FROM (
    SELECT e.offering_id || ' ' || step.place AS place,
           sum(step.seats) OVER (PARTITION BY e.offering_id, step.place ORDER BY c.id, step.seats) AS taken
    FROM enrolment_changes c
    JOIN enrolments e ON e.id = c.enrolment_id
    CROSS JOIN LATERAL (
        SELECT c.from_place AS place, -1 AS seats WHERE c.from_state IN ('associated', 'offered', 'reserved')
        UNION ALL
        SELECT c.place, 1 WHERE c.to_state IN ('associated', 'offered', 'reserved')
    ) AS step
) AS steps;

-- V6: at each place the line is as long as there are people who wait for it
SELECT count(*) AS looked, count(*) FILTER (WHERE bad) AS wrong, min(place) FILTER (WHERE bad) AS example
FROM (
    SELECT p.offering_id || ' ' || p.arena AS place, p.queued <> count(e.id) AS bad
    FROM places p
    LEFT JOIN enrolments e ON e.offering_id = p.offering_id AND p.arena = ANY (e.waiting_for)
    GROUP BY p.offering_id, p.arena
) AS lines;

-- V6: each block of a line counts as many as stand in it
SELECT coalesce(sum(looked), 0)::bigint AS looked, count(*) FILTER (WHERE looked IS DISTINCT FROM counted) AS wrong,
       min(offering_id || ' ' || block) FILTER (WHERE looked IS DISTINCT FROM counted) AS example
FROM (
    SELECT offering_id, rank, line_block(queue_number) AS block, waiting_for, count(*) AS looked FROM enrolments
    WHERE waiting_for <> '{}' GROUP BY offering_id, rank, line_block(queue_number), waiting_for
) AS line
FULL JOIN (
    SELECT offering_id, rank, block, waiting_for, waiting AS counted FROM line_blocks
) AS blocks USING (offering_id, rank, block, waiting_for);

-- V7: no seat is free that somebody stands in line for, until 12 hours before the start: then it is whose who asks first
SELECT count(*) AS looked, count(*) FILTER (WHERE idle) AS wrong, min(place) FILTER (WHERE idle) AS example
FROM (
    SELECT p.offering_id || ' ' || p.arena AS place, p.taken < p.capacity AND EXISTS (
        SELECT FROM enrolments e WHERE e.offering_id = p.offering_id AND p.arena = ANY (e.waiting_for)
    ) AS idle
    FROM places p JOIN offerings o ON o.id = p.offering_id
    WHERE NOT o.cancelled AND o.over_since IS NULL AND o.starts_at - interval '12 hours' > app_now()
) AS open;

-- V7: no run that goes on after all takes nobody for longer than it needs to let those come back whom its end put out
SELECT count(*) AS looked, count(*) FILTER (WHERE stuck) AS wrong, min(id::text) FILTER (WHERE stuck) AS example
FROM (
    SELECT id, over_since IS NOT NULL AND NOT cancelled AND ends_at > app_now() AND NOT EXISTS (
        SELECT FROM timers t WHERE t.offering_id = o.id AND t.due_at <= app_now() + interval '1 minute'
    ) AS stuck
    FROM offerings o
) AS back;

-- V8: nobody in line was passed over for somebody further back who has the offer now
-- Passed over is who has had no step since that seat was offered, and so stood there then. Ranks are compared where the
-- groups are as they were then; where the partner has changed them since, only those whom no groups put in another order.
-- An offer made anew, for a course that begins earlier, counts from its first making.
SELECT count(*) AS looked, count(*) FILTER (WHERE passed) AS wrong, min(id::text) FILTER (WHERE passed) AS example
FROM (
    SELECT o.id, EXISTS (
        SELECT FROM enrolments front
        WHERE front.offering_id = o.offering_id AND front.waiting_for <> '{}' AND o.place = ANY (front.waiting_for)
            AND (given.id > run.ranked_after AND (front.rank, front.queue_number) < (e.rank, e.queue_number)
                 OR front.queue_number < e.queue_number AND (
                     e.put_back OR e.group_name IS NULL OR front.group_name = e.group_name AND NOT front.put_back))
            AND NOT EXISTS (SELECT FROM enrolment_changes c WHERE c.enrolment_id = front.id AND c.id > given.id)
    ) AS passed
    FROM offers o
    JOIN enrolments e ON e.id = o.enrolment_id
    JOIN offerings run ON run.id = o.offering_id
    CROSS JOIN LATERAL (
        SELECT max(c.id) AS id FROM enrolment_changes c
        WHERE c.enrolment_id = e.id AND c.to_state = 'offered' AND c.by_whom = 'line'
    ) AS given
    WHERE o.ended_at IS NULL AND given.id IS NOT NULL
) AS offered;

-- V9: no offer is open a minute after its hour, and none was accepted after it
SELECT count(*) AS looked, count(*) FILTER (WHERE bad) AS wrong, min(id::text) FILTER (WHERE bad) AS example
FROM (
    SELECT id, coalesce(outcome = 'accepted' AND ended_at > expires_at,
                        expires_at < app_now() - interval '1 minute') AS bad
    FROM offers
) AS made;

-- V9: who has an offer has a seat kept, and the other way round
SELECT count(*) AS looked, count(*) FILTER (WHERE bad) AS wrong, min(id::text) FILTER (WHERE bad) AS example
FROM (
    SELECT e.id, (e.state = 'offered') <> (o.id IS NOT NULL) OR o.place <> e.place AS bad
    FROM enrolments e LEFT JOIN offers o ON o.enrolment_id = e.id AND o.ended_at IS NULL
) AS kept;

-- V2: each enrolment is what its last change made of it
SELECT count(*) AS looked, count(*) FILTER (WHERE state IS DISTINCT FROM last) AS wrong,
       min(id::text) FILTER (WHERE state IS DISTINCT FROM last) AS example
FROM (
    SELECT e.id, e.state, (
        SELECT c.to_state FROM enrolment_changes c WHERE c.enrolment_id = e.id ORDER BY c.id DESC LIMIT 1
    ) AS last
    FROM enrolments e
) AS steps;

-- V2: nobody sits or waits in an offering that was cancelled, once all have been told
SELECT count(*) AS looked, count(*) FILTER (WHERE live) AS wrong, min(id::text) FILTER (WHERE live) AS example
FROM (
    SELECT e.id, e.state IN ('pending', 'queued', 'offered', 'reserved', 'associated') AS live
    FROM enrolments e JOIN offerings o ON o.id = e.offering_id
    WHERE o.cancelled AND NOT EXISTS (SELECT FROM timers t WHERE t.offering_id = o.id AND t.due_at <= app_now())
) AS gone;

-- V3: the last that was said of each enrolment is what it is
SELECT count(*) AS looked, count(*) FILTER (WHERE bad) AS wrong, min(id::text) FILTER (WHERE bad) AS example
FROM (
    SELECT e.id, CASE split_part(said.type, '.', 4)
        WHEN 'LearnerEnrolled' THEN 'associated' WHEN 'LearnerMoved' THEN 'associated'
        WHEN 'LearnerQueued' THEN 'queued' WHEN 'LearnerAdvanced' THEN 'queued' WHEN 'SeatOffered' THEN 'offered'
        WHEN 'EnrolmentPending' THEN 'pending' WHEN 'EnrolmentDenied' THEN 'denied'
        WHEN 'EnrolmentFinished' THEN 'finished' WHEN 'LearnerWithdrew' THEN 'cancelled'
        WHEN 'EnrolmentRestated' THEN said.restated
        WHEN 'LearnerGotNoSeat' THEN CASE said.waited_for WHEN 'approval' THEN 'pending' ELSE 'queued' END
        WHEN 'SeatOfferDeclined' THEN said.after WHEN 'SeatOfferLapsed' THEN said.after
        ELSE '' END <> e.state AS bad
    FROM enrolments e
    JOIN (
        SELECT DISTINCT ON (subject) subject, event->>'type' AS type,
               event->'data'->>'state' AS restated, event->'data'->>'waited_for' AS waited_for,
               CASE WHEN (event->'data'->>'in_line')::boolean THEN 'queued' ELSE 'cancelled' END AS after
        FROM (SELECT id, topic, subject, convert_from(payload, 'UTF8')::json AS event FROM outbox) AS outbox
        WHERE topic = 'enrolment.enrolments' ORDER BY subject, id DESC
    ) said ON said.subject = e.id::text
) AS told;

-- V3: each enrolment that changed in the last 13 days was spoken of
SELECT count(*) AS looked, count(*) FILTER (WHERE said IS NULL) AS wrong,
       min(id::text) FILTER (WHERE said IS NULL) AS example
FROM (
    SELECT DISTINCT c.enrolment_id AS id, o.subject AS said
    FROM enrolment_changes c LEFT JOIN outbox o ON o.subject = c.enrolment_id::text
    WHERE c.changed_at > app_now() - interval '13 days'
) AS changed;

-- V17: nobody has waited for three days to be forgotten by every service
SELECT count(*) AS looked, count(*) FILTER (WHERE late) AS wrong, min(request_id::text) FILTER (WHERE late) AS example
FROM (
    SELECT request_id, done_at IS NULL AND asked_at < app_now() - interval '72 hours' AS late FROM erasures
) AS asked;

-- V17: whoever was forgotten is not here
SELECT count(*) AS looked, count(*) FILTER (WHERE here) AS wrong, min(id::text) FILTER (WHERE here) AS example
FROM (
    SELECT f.learner_id AS id, l.id IS NOT NULL AS here FROM erasures f LEFT JOIN learners l ON l.id = f.learner_id
    UNION ALL
    SELECT e.id, e.name <> '' OR e.state IN ('pending', 'queued', 'offered', 'reserved', 'associated')
    FROM enrolments e WHERE e.learner_id = '00000000-0000-0000-0000-000000000000'
) AS forgotten;
