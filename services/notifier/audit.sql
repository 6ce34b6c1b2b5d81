-- What must be so of notices. Each rule: a heading, and a statement that gives one row.
-- V12: each event is told of once by each way
SELECT coalesce(sum(times), 0)::bigint AS looked, count(*) FILTER (WHERE times > 1) AS wrong,
       min(event_id) FILTER (WHERE times > 1) AS example
FROM (SELECT event_id, learner_id, count(*) AS times FROM notices GROUP BY event_id, learner_id, channel) AS owed;

-- V12: what was sent was tried, and has its Message-ID and its time
SELECT count(*) AS looked, count(*) FILTER (WHERE bad) AS wrong, min(id::text) FILTER (WHERE bad) AS example
FROM (
    SELECT id, attempts < 1 OR message_id IS NULL OR sent_at IS NULL AS bad FROM notices WHERE state = 'sent'
) AS sent;

-- V12 declared_resends: a mail goes out again at most as often as it was tried again
SELECT coalesce(sum(resends), 0)::bigint AS looked, count(*) FILTER (WHERE bad) AS wrong,
       min(id::text) FILTER (WHERE bad) AS example
FROM (SELECT id, resends, resends > greatest(attempts - 1, 0) AS bad FROM notices) AS tried;

-- V14: no mail has been in hand for more than two minutes
SELECT count(*) AS looked, count(*) FILTER (WHERE late) AS wrong, min(id::text) FILTER (WHERE late) AS example
FROM (
    SELECT id, sending_since < app_now() - interval '2 minutes' AS late FROM notices WHERE state = 'sending'
) AS in_hand;

-- V3: what became of each notice in the last 13 days was said once
SELECT count(*) AS looked, count(*) FILTER (WHERE times <> 1) AS wrong,
       min(id::text) FILTER (WHERE times <> 1) AS example
FROM (
    SELECT n.id, count(o.id) AS times FROM notices n LEFT JOIN outbox o ON o.subject = n.id::text
    WHERE n.state IN ('sent', 'failed') AND n.updated_at > app_now() - interval '13 days' GROUP BY n.id
) AS told;

-- V5: each notice of the last 27 days is owed for an event that was heard
SELECT count(*) AS looked, count(*) FILTER (WHERE i.event_id IS NULL) AS wrong,
       min(n.id::text) FILTER (WHERE i.event_id IS NULL) AS example
FROM notices n LEFT JOIN inbox i ON i.event_id = n.event_id
    AND i.consumer = CASE WHEN n.template IN ('changed', 'confirmed') THEN 'notifier.courses' ELSE 'notifier.enrolments' END
WHERE n.created_at > app_now() - interval '27 days' AND n.template NOT IN ('digest', 'partner_digest', 'reminder');  -- told by the clock

-- V13: each event of the last 27 days is owed to a webhook once, and was heard
SELECT count(*) AS looked, count(*) FILTER (WHERE times > 1 OR NOT heard) AS wrong,
       min(event_id) FILTER (WHERE times > 1 OR NOT heard) AS example
FROM (
    SELECT d.event_id, count(*) AS times, bool_or(i.event_id IS NOT NULL OR d.key = d.webhook_id::text) AS heard
    FROM webhook_deliveries d
    LEFT JOIN inbox i ON i.consumer = 'notifier.webhooks' AND i.event_id = d.event_id
    WHERE d.created_at > app_now() - interval '27 days' GROUP BY d.webhook_id, d.event_id
) AS owed;

-- V13: what a webhook has taken was tried, answered with 2xx, and has its time
SELECT count(*) AS looked, count(*) FILTER (WHERE bad) AS wrong, min(id::text) FILTER (WHERE bad) AS example
FROM (
    SELECT id, attempts < 1 OR delivered_at IS NULL OR status_code IS NULL OR status_code NOT BETWEEN 200 AND 299 AS bad
    FROM webhook_deliveries WHERE state = 'delivered'
) AS taken;

-- V14: no call of a webhook has been under way for two minutes
SELECT count(*) AS looked, count(*) FILTER (WHERE late) AS wrong, min(id::text) FILTER (WHERE late) AS example
FROM (
    SELECT one.id, sending_since < app_now() - interval '2 minutes' AS late
    FROM webhook_deliveries AS one JOIN webhooks AS webhook ON webhook.id = one.webhook_id
    WHERE one.state = 'sending' AND webhook.state = 'on' AND webhook.rests_until < app_now() - interval '2 minutes'
) AS in_hand;

-- V13: each event of the last 13 days is on a partner's feed once, and was heard
SELECT count(*) AS looked, count(*) FILTER (WHERE times > 1 OR NOT heard) AS wrong,
       min(event_id::text) FILTER (WHERE times > 1 OR NOT heard) AS example
FROM (
    SELECT o.event_id, count(*) AS times, bool_or(i.event_id IS NOT NULL) AS heard
    FROM outbox o
    LEFT JOIN inbox i ON i.consumer = 'notifier.webhooks' AND i.event_id = o.event_id::text
    WHERE o.topic LIKE 'partners.%' AND o.created_at > app_now() - interval '13 days' GROUP BY o.topic, o.event_id
) AS said;

-- V17: nobody who was forgotten has an address here
SELECT count(*) AS looked, count(*) FILTER (WHERE c.learner_id IS NOT NULL) AS wrong,
       min(f.learner_id::text) FILTER (WHERE c.learner_id IS NOT NULL) AS example
FROM erased f LEFT JOIN contacts c ON c.learner_id = f.learner_id;
