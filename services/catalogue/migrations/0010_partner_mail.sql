-- squawk-ignore-file constraint-missing-not-valid
-- Partners are few, and looked through in a moment.

-- Where a partner's office is written to. The catalogue cannot read it: the letter is sealed for the notifier, and the
-- digest, with its salt before it, only tells whether an address that is given again is the same.
ALTER TABLE partners ADD COLUMN mail_sealed text;
ALTER TABLE partners ADD COLUMN mail_digest bytea;
ALTER TABLE partners ADD COLUMN mail_language text;
-- Half an office could be told to nobody, and an address in clear is longer or shorter than a digest.
ALTER TABLE partners ADD CONSTRAINT partner_mail_whole CHECK (
    (mail_sealed IS NULL) = (mail_digest IS NULL) AND (mail_sealed IS NULL) = (mail_language IS NULL)
    AND length(mail_digest) = 48
);
