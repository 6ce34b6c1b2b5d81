-- SMS beside mail: a phone number for whoever gave one, and a notice of its own for each way to a person.
-- The notifier stands still while its tables get their columns, so locks need not be avoided.
-- squawk-ignore-file constraint-missing-not-valid, ban-drop-constraint, disallowed-unique-constraint
-- squawk-ignore-file require-concurrent-index-creation

ALTER TABLE contacts ADD COLUMN phone text;  -- E.164; none when the learner gave none
ALTER TABLE contacts ADD CONSTRAINT contacts_phone CHECK (phone ~ '^\+[1-9][0-9]{7,14}$');

-- By mail and by SMS is twice to be told, each of them once.
ALTER TABLE notices DROP CONSTRAINT notices_once;
ALTER TABLE notices ADD CONSTRAINT notices_once UNIQUE (event_id, learner_id, template, channel);

-- A mail about the own seat cannot be turned off; an SMS about it is what one may ask for beside.
ALTER TABLE preferences DROP CONSTRAINT preferences_leave_seats_alone;
ALTER TABLE preferences ADD CONSTRAINT preferences_leave_seats_alone
    CHECK (category NOT IN ('seat', 'offer') OR channel = 'sms');

-- As before, and none of the SMS: the mail beside it stands here already.
CREATE OR REPLACE VIEW seen AS
SELECT contact.login, contact.name, contact.language, notice.id, notice.template, notice.about, notice.offering_id,
       notice.created_at, notice.read_at, notice.place, notice.place_in_line, notice.facts, notice.expires_at,
       course.title, offering.starts_at, offering.ends_at, offering.alternatives
FROM contacts AS contact
JOIN notices AS notice USING (learner_id)
JOIN offerings AS offering USING (offering_id)
JOIN courses AS course USING (course_id)
WHERE contact.login IS NOT NULL
  AND notice.channel <> 'sms'
  AND (notice.state <> 'due' OR notice.due_at <= app_now())
  AND notice.template <> 'digest'
  AND coalesce(notice.reason, '') NOT IN ('too_late', 'settling', 'told_with_later', 'changed_back');
