-- Who is put at the back of the line stands behind everybody: a group that comes first brings nobody back in front, else
-- its first would be offered the same seat again, and those behind it never.

ALTER TABLE enrolments ADD COLUMN put_back boolean NOT NULL DEFAULT false;  -- has the rank of one of no group for good
