-- Whether enough have enrolled in a run, as enrolment found it. No row: nothing was found yet, or by rules that are no
-- longer so.
CREATE TABLE judgements (
    offering_id uuid PRIMARY KEY REFERENCES offerings (id),
    decision text NOT NULL,
    enrolled integer NOT NULL,
    minimum integer NOT NULL,  -- what was asked for when it was judged
    decided_at timestamptz NOT NULL DEFAULT app_now(),
    CONSTRAINT judgement_decision CHECK (decision IN ('at_risk', 'confirmed', 'too_few'))
);
