-- Which partners read what happens to their courses on a topic of their own, `partners.<slug>.feed`.
-- The notifier stands still while its tables get their index, so locks need not be avoided.
-- squawk-ignore-file require-concurrent-index-creation

CREATE TABLE partner_feeds (
    partner text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT app_now()
);
-- An event that is heard again is on a feed once; and how the notifier finds what was said there.
CREATE UNIQUE INDEX outbox_says_once_on_a_feed ON outbox (topic, event_id) WHERE topic LIKE 'partners.%';
