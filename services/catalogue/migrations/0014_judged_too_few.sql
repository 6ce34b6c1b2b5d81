-- squawk-ignore-file require-concurrent-index-creation
-- Judgements wait while the index is made: 0.1 s for 60,000 of them.
-- Each look at a provider's page asks which of its runs had too few. Few had: all judgements were read to find them.
CREATE INDEX judgements_too_few ON judgements (offering_id) WHERE decision = 'too_few';
