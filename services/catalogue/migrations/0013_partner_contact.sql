-- Whom learners may ask about a partner's courses, as it is told to everybody: an office's address, phone or page.
ALTER TABLE partners ADD COLUMN contact text;
