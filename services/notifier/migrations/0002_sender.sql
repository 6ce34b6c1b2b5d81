-- Which sender has the notice in hand, by its lasting name (KURSNETT_INSTANCE): a replica that comes back after a kill
-- takes its own back at once. None when it has no such name; then the notice waits until it counts as abandoned.
ALTER TABLE notices ADD COLUMN sender text;
