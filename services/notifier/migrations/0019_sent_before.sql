-- What was sent before the database was restored is known by its event alone, and not by its words: it is not shown.
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
  AND (notice.state <> 'due' OR notice.due_at <= app_now())
  AND notice.template <> 'digest'
  AND coalesce(notice.reason, '') NOT IN ('too_late', 'settling', 'told_with_later', 'changed_back', 'sent_before');
