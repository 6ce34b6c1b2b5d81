-- A place in line is told without counting the whole line: those in front are counted by the block, and only the own
-- block is counted one by one. The database keeps the blocks itself, so that no statement on enrolments can forget them.

-- The first number of the block of the line that this number is in.
CREATE FUNCTION line_block(queue_number bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE RETURN queue_number - queue_number % 256;

-- How many of one rank, with numbers of one block, stand in line for the same places.
CREATE TABLE line_blocks (
    offering_id uuid NOT NULL REFERENCES offerings (id),
    rank smallint NOT NULL,
    block bigint NOT NULL,
    waiting_for text[] NOT NULL,
    waiting integer NOT NULL,
    PRIMARY KEY (offering_id, rank, block, waiting_for),
    CONSTRAINT line_blocks_somebody_waits CHECK (waiting > 0)
);

-- Whoever writes enrolments holds the offering's row, so nobody else writes its blocks meanwhile.
CREATE FUNCTION line_joined() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO line_blocks AS mine (offering_id, rank, block, waiting_for, waiting)
    SELECT offering_id, rank, line_block(queue_number), waiting_for, count(*) FROM written
    WHERE waiting_for <> '{}' GROUP BY offering_id, rank, line_block(queue_number), waiting_for
    ON CONFLICT (offering_id, rank, block, waiting_for) DO UPDATE SET waiting = mine.waiting + excluded.waiting;
    RETURN NULL;
END $$;

CREATE FUNCTION line_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    MERGE INTO line_blocks AS mine USING (
        SELECT offering_id, rank, line_block(queue_number) AS block, waiting_for, count(*) AS many FROM past
        WHERE waiting_for <> '{}' GROUP BY offering_id, rank, line_block(queue_number), waiting_for
    ) AS gone ON (mine.offering_id, mine.rank, mine.block, mine.waiting_for)
        = (gone.offering_id, gone.rank, gone.block, gone.waiting_for)
    WHEN MATCHED AND mine.waiting = gone.many THEN DELETE
    WHEN MATCHED THEN UPDATE SET waiting = mine.waiting - gone.many;
    RETURN NULL;
END $$;

CREATE TRIGGER line_blocks_1_joined AFTER INSERT ON enrolments
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION line_joined();
CREATE TRIGGER line_blocks_2_joined AFTER UPDATE ON enrolments
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION line_joined();
CREATE TRIGGER line_blocks_3_left AFTER UPDATE ON enrolments
    REFERENCING OLD TABLE AS past FOR EACH STATEMENT EXECUTE FUNCTION line_left();
CREATE TRIGGER line_blocks_4_left AFTER DELETE ON enrolments
    REFERENCING OLD TABLE AS past FOR EACH STATEMENT EXECUTE FUNCTION line_left();

INSERT INTO line_blocks (offering_id, rank, block, waiting_for, waiting)
SELECT offering_id, rank, line_block(queue_number), waiting_for, count(*) FROM enrolments
WHERE waiting_for <> '{}' GROUP BY offering_id, rank, line_block(queue_number), waiting_for;
