-- What is held for digests is looked for each second, and is few of all that is owed.
-- The notifier stands still while its tables get their index, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation

-- Only the look for those whose hour has come asks by this: without it that reads all that is owed.
CREATE INDEX notices_for_digests ON notices (due_at) WHERE state = 'held' AND reason = 'digest';
