-- Partners, what they offer, and what became of everything they sent.

CREATE TABLE partners (
    slug text PRIMARY KEY,
    name text NOT NULL,
    orgnr text,
    arenas text[] NOT NULL,
    state text NOT NULL DEFAULT 'active',
    version integer NOT NULL DEFAULT 1,
    joined_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT partner_state CHECK (state IN ('active', 'quarantined', 'suspended')),
    CONSTRAINT partner_has_an_arena CHECK (cardinality(arenas) > 0)
);

-- Keys are shown once and kept only as a digest: whoever reads this table can act for nobody.
CREATE TABLE partner_keys (
    digest bytea PRIMARY KEY,
    partner text NOT NULL REFERENCES partners (slug),
    made_at timestamptz NOT NULL DEFAULT app_now()
);

CREATE TABLE subjects (slug text PRIMARY KEY);
INSERT INTO subjects (slug) VALUES
    ('helse'), ('ledelse'), ('teknologi'), ('pedagogikk'), ('sprak'), ('havbruk'), ('bygg'), ('okonomi'),
    ('industri'), ('reiseliv'), ('sjofart');

CREATE TABLE courses (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    partner text NOT NULL REFERENCES partners (slug),
    code text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    content jsonb NOT NULL,  -- as the partner described it, checked
    withdrawn boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT course_code_is_the_partners_own UNIQUE (partner, code)  -- two partners may use the same code
);

CREATE TABLE offerings (
    id uuid PRIMARY KEY DEFAULT uuidv7(),
    course_id uuid NOT NULL REFERENCES courses (id),
    key text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    content jsonb NOT NULL,
    state text NOT NULL DEFAULT 'scheduled',
    changed_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT offering_state CHECK (state IN ('scheduled', 'cancelled')),
    CONSTRAINT offering_key_within_its_course UNIQUE (course_id, key)
);

-- What was taken from whom, and which way it came. What was refused lies in the kit's table, with its bytes.
CREATE TABLE intake (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partner text NOT NULL REFERENCES partners (slug),
    way text NOT NULL,
    what text NOT NULL,
    code text NOT NULL,
    at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT intake_way CHECK (way IN ('kafka', 'http'))
);
-- A partner reads its own, newest first.
CREATE INDEX intake_of_partner ON intake (partner, id DESC);
