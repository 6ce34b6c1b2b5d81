-- Notices are deleted when they have been over for long; what they told calendars, and since when each was tried, is kept.
-- The notifier stands still while its tables get their columns, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation

-- The newest version of an enrolment's appointment that no notice here tells of: its course has another name or time, and
-- a calendar may have read that already; or the notices that had the versions are deleted. None: there was no such thing.
ALTER TABLE enrolments
    ADD COLUMN sequence integer,
    ADD COLUMN sequence_at timestamptz;

-- From when its tries count, of a notice that was tried: the first, and later by as long as nobody was there to try.
ALTER TABLE notices ADD COLUMN tried_since timestamptz;

-- What became of one request, for an operator's timeline, among all that was ever sent.
CREATE INDEX notices_correlation ON notices (correlation_id);
