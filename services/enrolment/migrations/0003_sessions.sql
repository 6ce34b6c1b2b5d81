-- Who is logged in, and what people may do beside what everybody may.

-- A session ends when it was not used for half an hour, after eight hours, and when its person logs out.
CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    digest bytea NOT NULL,  -- of the key in the cookie: whoever reads this table is not logged in by it
    issuer text NOT NULL,
    subject text NOT NULL,
    name text,
    csrf text NOT NULL,     -- stands in the forms of this session
    -- What the issuer says of the person's role; empty where it is not believed.
    said jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT app_now(),
    seen_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT sessions_one_for_each_key UNIQUE (digest)
);
CREATE INDEX sessions_age ON sessions (created_at);  -- finds those that are over

-- People who act for a partner or run the system. Everybody else is a learner.
CREATE TABLE members (
    issuer text NOT NULL,
    subject text NOT NULL,
    role text NOT NULL DEFAULT 'learner',
    partner text,
    employer text,
    since timestamptz NOT NULL DEFAULT app_now(),
    PRIMARY KEY (issuer, subject),
    CONSTRAINT members_role CHECK (role IN ('learner', 'operator')),
    CONSTRAINT members_have_something CHECK (role = 'operator' OR partner IS NOT NULL OR employer IS NOT NULL)
);
