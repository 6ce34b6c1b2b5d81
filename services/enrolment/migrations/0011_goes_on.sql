-- A run that was over by what was known here, and is not after all, gets back those whom its end has put out, some at a
-- time.

-- The first end by which people were put out, from when another end is heard of until all are back; none: nobody waits.
ALTER TABLE offerings ADD COLUMN over_since timestamptz;
