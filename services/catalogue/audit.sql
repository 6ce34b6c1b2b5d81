-- What must be so of courses. Each rule: a heading, and a statement that gives one row.
-- V3: the last that was said of each course and offering is its version
SELECT count(*) AS looked, count(*) FILTER (WHERE version <> told) AS wrong,
       min(id::text) FILTER (WHERE version <> told) AS example
FROM (
    SELECT thing.id, thing.version, said.version AS told
    FROM (SELECT id, version FROM courses UNION ALL SELECT id, version FROM offerings) AS thing
    JOIN (
        SELECT DISTINCT ON (subject) subject, (convert_from(payload, 'UTF8')::json->'data'->>'version')::int AS version
        FROM outbox WHERE topic = 'catalogue.courses' ORDER BY subject, id DESC
    ) said ON said.subject = thing.id::text
) AS versions;

-- V3: each course and offering that changed in the last 13 days was spoken of
SELECT count(*) AS looked, count(*) FILTER (WHERE said IS NULL) AS wrong,
       min(id::text) FILTER (WHERE said IS NULL) AS example
FROM (
    SELECT DISTINCT thing.id, o.subject AS said
    FROM (SELECT id, changed_at FROM courses UNION ALL SELECT id, changed_at FROM offerings) AS thing
    LEFT JOIN outbox o ON o.subject = thing.id::text
    WHERE thing.changed_at > app_now() - interval '13 days'
) AS changed;

-- V2: a course that was withdrawn has no run that is open
SELECT count(*) AS looked, count(*) FILTER (WHERE o.state <> 'cancelled') AS wrong,
       min(o.id::text) FILTER (WHERE o.state <> 'cancelled') AS example
FROM courses c JOIN offerings o ON o.course_id = c.id
WHERE c.withdrawn AND (o.content->>'ends_at')::timestamptz > app_now();

-- V2: nothing that is cancelled or withdrawn waits for its partner's decision
SELECT count(*) AS looked, count(*) FILTER (WHERE c.withdrawn OR o.state = 'cancelled') AS wrong,
       min(coalesce(o.id, c.id)::text) FILTER (WHERE c.withdrawn OR o.state = 'cancelled') AS example
FROM retractions r JOIN courses c ON c.id = r.course_id LEFT JOIN offerings o ON o.id = r.offering_id;
