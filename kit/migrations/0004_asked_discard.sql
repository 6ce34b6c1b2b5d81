-- On the console a record is given up for good by two: one operator asks for it, with a reason, and another does it.
ALTER TABLE parked
    ADD COLUMN asked_by text,  -- who asked, as `by` of operator_acts; none while nobody does
    ADD COLUMN asked_name text,
    ADD COLUMN asked_reason text,
    ADD COLUMN asked_at timestamptz;
