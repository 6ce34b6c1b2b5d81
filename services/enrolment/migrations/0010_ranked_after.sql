-- Which offers were made in the order that a line has now: `audit` can judge these by it, and no others. The database
-- keeps it itself, so that no statement on offerings can forget it.

-- The last step of any enrolment before the groups of this run came into another order; 0: they never have.
ALTER TABLE offerings ADD COLUMN ranked_after bigint NOT NULL DEFAULT 0;
-- When those that have changed did so, nothing tells.
UPDATE offerings SET ranked_after = (SELECT coalesce(max(id), 0) FROM enrolment_changes) WHERE version > 1;

-- Whoever changes an offering has its row, and so do those who give its seats: what they write later has a higher id.
CREATE FUNCTION line_ranked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ranked_after := (SELECT last_value FROM enrolment_changes_id_seq);
    RETURN NEW;
END $$;

CREATE TRIGGER offerings_ranked BEFORE UPDATE OF rules ON offerings FOR EACH ROW
    WHEN (OLD.rules -> 'priority_groups' IS DISTINCT FROM NEW.rules -> 'priority_groups')
    EXECUTE FUNCTION line_ranked();
