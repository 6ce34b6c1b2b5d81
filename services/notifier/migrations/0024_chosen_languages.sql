-- Who saves another phone or address here sends the language along with it, and has not chosen one by that. Of those who
-- changed something before, nobody knows what it was: they keep the language that they have.
ALTER TABLE contacts ADD COLUMN language_chosen boolean NOT NULL DEFAULT false;
UPDATE contacts SET language_chosen = true WHERE own_at IS NOT NULL;
