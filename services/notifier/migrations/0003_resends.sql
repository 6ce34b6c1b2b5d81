-- How often a mail went out again although the server may have had it: the declared window. `audit` adds them up, and
-- no mail can have been taken more than one and so many times.
ALTER TABLE notices ADD COLUMN resends integer NOT NULL DEFAULT 0;
