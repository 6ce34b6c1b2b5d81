-- Partners as the catalogue tells of them: who is suspended, and by which keys they are known over HTTP.

CREATE TABLE partners (
    slug text PRIMARY KEY,
    state text NOT NULL,
    version integer NOT NULL,  -- the newest that was heard
    CONSTRAINT partner_state CHECK (state IN ('active', 'suspended'))
);

CREATE TABLE partner_keys (
    digest bytea PRIMARY KEY,  -- whoever reads this table can act for nobody
    partner text NOT NULL REFERENCES partners (slug)
);
CREATE INDEX partner_keys_of_partner ON partner_keys (partner);
