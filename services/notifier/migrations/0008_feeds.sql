-- What a person sees of their own when they are logged in, and not by mail: their notices.
-- The notifier stands still while its tables get their columns, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation

ALTER TABLE notices ADD COLUMN read_at timestamptz;
-- A person's notices, newest first, and how many of them are unread: asked for at each look of a live feed.
CREATE INDEX notices_of_learner ON notices (learner_id, id);

-- What a log-in may see: notices whose time has come and whose course is known. An offer of which nobody could be told
-- in time is none.
CREATE VIEW seen AS
SELECT contact.login, contact.name, contact.language, notice.id, notice.template, notice.about, notice.offering_id,
       notice.created_at, notice.read_at, notice.place, notice.place_in_line, notice.facts, notice.expires_at,
       course.title, offering.starts_at, offering.ends_at, offering.alternatives
FROM contacts AS contact
JOIN notices AS notice USING (learner_id)
JOIN offerings AS offering USING (offering_id)
JOIN courses AS course USING (course_id)
WHERE contact.login IS NOT NULL
  AND (notice.state <> 'due' OR notice.due_at <= app_now())
  -- What a later letter tells with it, or took back, is told there; a digest repeats what stands here already.
  AND notice.template <> 'digest'
  AND coalesce(notice.reason, '') NOT IN ('too_late', 'settling', 'told_with_later', 'changed_back');

-- The address of a person's calendar, which acts as a key: who has the database alone can read nobody's.
CREATE TABLE calendars (
    login text PRIMARY KEY,           -- one address each: a new one ends the one before
    secret_sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT calendars_address UNIQUE (secret_sha256)  -- an address is one person's
);
