-- Who was forgotten. A row has a random id, which is nobody's any more, and stays: whatever is heard of this learner late,
-- again, or after a restore brings no address back, and no notice goes.

CREATE TABLE erased (
    learner_id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT app_now()
);
CREATE INDEX erased_at ON erased (at);  -- of those who were forgotten lately, what comes late is looked for
