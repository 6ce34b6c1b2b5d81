-- A partner says on which days before a run its learners are reminded. Of runs that were heard of before, it has said nothing.

ALTER TABLE offerings ADD COLUMN reminder_days integer[] NOT NULL DEFAULT '{7,1}';
