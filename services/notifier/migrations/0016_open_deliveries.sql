-- What is open for a webhook is found however little was open when PostgreSQL last counted, as 0014 does for notices.
-- The notifier stands still while its tables get their index, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation, require-concurrent-index-deletion

-- An older one with the same key, which goes first, is looked for among all with that key, which are few.
DROP INDEX webhook_deliveries_open_key;
CREATE INDEX webhook_deliveries_key ON webhook_deliveries (webhook_id, key, id);

-- What is in hand for each webhook is counted with each claim: no other of its deliveries is looked at for that.
CREATE INDEX webhook_deliveries_in_hand ON webhook_deliveries (webhook_id, sending_since) WHERE state = 'sending';

-- As before, with a condition that always holds and that only those questions name which look for what is due of one
-- webhook: for no other can it be read from end to end.
DROP INDEX webhook_deliveries_open;
CREATE INDEX webhook_deliveries_open ON webhook_deliveries (webhook_id, due_at, id)
    WHERE state IN ('pending', 'deferred', 'sending') AND due_at > '-infinity';
