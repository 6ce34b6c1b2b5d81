-- squawk-ignore-file require-concurrent-index-creation
-- Writes wait while the indexes are made: less than a second for some ten thousand courses.
-- Which transaction wrote a row last. A service that holds the courses in its memory asks with the snapshot of its last
-- look what has become visible since: no time and no counter can tell that, since who begins first may commit last.
-- The database notes it itself, so that no statement can forget to. Rows of these tables are never deleted.
ALTER TABLE courses ADD COLUMN written_in xid8 NOT NULL DEFAULT '0';
ALTER TABLE offerings ADD COLUMN written_in xid8 NOT NULL DEFAULT '0';
ALTER TABLE seat_counts ADD COLUMN written_in xid8 NOT NULL DEFAULT '0';

CREATE FUNCTION note_transaction() RETURNS trigger
    LANGUAGE plpgsql
    AS 'BEGIN NEW.written_in := pg_current_xact_id(); RETURN NEW; END';

CREATE TRIGGER course_notes_its_transaction BEFORE INSERT OR UPDATE ON courses
    FOR EACH ROW EXECUTE FUNCTION note_transaction();
CREATE TRIGGER offering_notes_its_transaction BEFORE INSERT OR UPDATE ON offerings
    FOR EACH ROW EXECUTE FUNCTION note_transaction();
CREATE TRIGGER seats_note_their_transaction BEFORE INSERT OR UPDATE ON seat_counts
    FOR EACH ROW EXECUTE FUNCTION note_transaction();

-- Each look reads the end of these: what was written since the last.
CREATE INDEX courses_by_transaction ON courses (written_in);
CREATE INDEX offerings_by_transaction ON offerings (written_in);
CREATE INDEX seat_counts_by_transaction ON seat_counts (written_in);
