-- Whether the catalogue's word that a run takes place still holds: it forgets it when the day of decision is another, and
-- then alone is the partner asked again. Of runs from before this, it is known when the catalogue says them again.
ALTER TABLE offerings ADD COLUMN decide_at timestamptz;
ALTER TABLE offerings ADD COLUMN takes_place boolean NOT NULL DEFAULT false;
