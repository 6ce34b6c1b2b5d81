-- Why a partner may not publish for now, in the operator's words.
ALTER TABLE partners ADD COLUMN state_because text NOT NULL DEFAULT '';
