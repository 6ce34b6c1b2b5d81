-- Whether the other services were told of a partner's keys. They were not of those who joined before this, until
-- `partners sync` does it.
ALTER TABLE partners ADD COLUMN keys_told boolean NOT NULL DEFAULT false;
