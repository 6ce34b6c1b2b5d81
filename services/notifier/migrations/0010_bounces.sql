-- Addresses that mail servers refuse for good. An address stands here as a keyed digest only: it outlives the contact in
-- backups, and who has only the database cannot try addresses against it.

-- Not written to any more, until the learner gives another or an operator releases it (`kursnett mail release`).
CREATE TABLE IF NOT EXISTS bounced_addresses (
    address bytea PRIMARY KEY,
    learner_id uuid NOT NULL,     -- whose notice showed it; others with the same address get nothing either
    status text NOT NULL,         -- why: an enhanced status code (RFC 3463), or the code of the answer
    since timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT bounced_addresses_digest CHECK (length(address) = 32)  -- never an address in clear
);
-- A new contact takes out what its learner had.
CREATE INDEX IF NOT EXISTS bounced_addresses_learner ON bounced_addresses (learner_id);

-- Refusals that may be a server's mistake: on how many days of the last 30 an address had one.
CREATE TABLE IF NOT EXISTS refusals (
    address bytea NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (address, day),
    CONSTRAINT refusals_digest CHECK (length(address) = 32)
);
