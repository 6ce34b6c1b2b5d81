-- A notice that is shown stays: also while its mail waits for its turn, and once what it was settling with has settled.
-- No notice is owed for later, so that what is due is shown at once; one whose mail's turn does not come is due later again.
CREATE OR REPLACE VIEW seen AS
SELECT contact.login, contact.name, contact.language, notice.id, notice.template, notice.about, notice.offering_id,
       notice.created_at, notice.read_at, notice.place, notice.place_in_line, notice.facts, notice.expires_at,
       course.title, offering.starts_at, offering.ends_at, offering.alternatives, offering.cancelled_because
FROM contacts AS contact
JOIN notices AS notice USING (learner_id)
JOIN offerings AS offering USING (offering_id)
JOIN courses AS course USING (course_id)
WHERE contact.login IS NOT NULL
  AND notice.channel <> 'sms'
  AND notice.template <> 'digest'
  AND NOT (notice.state = 'held' AND notice.reason = 'settling')
  AND coalesce(notice.reason, '') NOT IN ('too_late', 'told_with_later', 'changed_back', 'sent_before');
