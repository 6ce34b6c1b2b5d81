"""`audit` finds what must never be: for each of its rules a database that breaks it, and one that breaks none."""

import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.local.places import ROOT
from kit import audit, migrations
from kit.database import connect
from tests.delivery import Servers

pytestmark = pytest.mark.anyio

SERVICES = ("catalogue", "enrolment", "notifier")
A, B, C, D = (f"'{uuid.UUID(int=n)}'" for n in range(1, 5))
ENDS = '{"ends_at": "2090-01-01T00:00:00Z"}'  # long after any run of the tests
ON_FEEDS = "SELECT event_id::text FROM outbox WHERE topic LIKE 'partners.%'"
LATE = "now() - interval '5 minutes'"
IN_FRONT = f"UPDATE enrolments SET queue_number = 0 WHERE id = {B}"
RULES = """'{"priority_groups": ["g"]}'"""
REGROUPED = f"UPDATE offerings SET version = 2, rules = {RULES}"
OF_GROUPS = f"{REGROUPED}; UPDATE enrolments SET group_name = CASE id WHEN {A} THEN 'g' ELSE 'h' END"
MOVED = "UPDATE offerings SET version = 3, starts_at = starts_at + interval '1 hour'"
OFFERED_AFTER = (
    "INSERT INTO enrolment_changes (enrolment_id, from_state, to_state, place, by_whom, why) "
    f"VALUES ({A}, 'queued', 'offered', 'online', 'line', '')"
)
FIRST_BY_GROUP = f"UPDATE enrolments SET rank = 0 WHERE id = {B}"


def said(subject: str, kind: str, seq: int = 1, topic: str = "enrolment.enrolments", data: str = "{}") -> str:
    """One published row of an outbox, with its aggregate's number."""
    payload = f'{{"type": "no.kursnett.x.{kind}.v1", "data": {data}}}'
    return f"""
        INSERT INTO outbox (event_id, aggregate, epoch, seq, topic, payload, subject, published_at)
        VALUES (gen_random_uuid(), 'thing/' || {subject}, 1, {seq}, '{topic}', '{payload}', {subject}, now());
        INSERT INTO outbox_sequence VALUES ('thing/' || {subject}, 1, {seq})
        ON CONFLICT (aggregate) DO UPDATE SET seq = excluded.seq
    """


# Each leaves a database that is whole, so that every rule has something to look at.
WHOLE = {
    "catalogue": f"""
        INSERT INTO partners (slug, name, arenas) VALUES ('p', 'P', '{{online}}');
        INSERT INTO courses (id, partner, code, content, withdrawn) VALUES ({A}, 'p', 'a', '{{}}', true);
        INSERT INTO offerings (id, course_id, key, content, state) VALUES ({B}, {A}, '1', '{ENDS}', 'cancelled');
        {said(A, "CourseCreated", topic="catalogue.courses", data='{"version": 1}')};
        {said(B, "OfferingScheduled", topic="catalogue.courses", data='{"version": 1}')};
        INSERT INTO courses (id, partner, code, content) VALUES ({C}, 'p', 'c', '{{}}');
        INSERT INTO offerings (id, course_id, key, content) VALUES ({D}, {C}, '1', '{{}}');
        {said(C, "CourseCreated", topic="catalogue.courses", data='{"version": 1}')};
        {said(D, "OfferingScheduled", topic="catalogue.courses", data='{"version": 1}')};
        INSERT INTO retractions (course_id, offering_id, reason, event_id) VALUES ({C}, {D}, '', '1');
    """,
    "enrolment": f"""
        INSERT INTO offerings VALUES ({A}, {A}, 'p', 1, now() + interval '9 days', now() + interval '10 days', false);
        INSERT INTO offerings VALUES ({B}, {A}, 'p', 1, now() + interval '9 days', now() + interval '10 days', true);
        INSERT INTO places VALUES ({A}, 'online', 1, 1, 1, 1, true, 1), ({B}, 'online', 1, 1, 1, 0, true, 0);
        INSERT INTO learners VALUES ({A}, 'i', 'a'), ({B}, 'i', 'b');
        INSERT INTO enrolments (id, offering_id, learner_id, state, choices, place, name, waiting_for) VALUES
            ({A}, {A}, {A}, 'offered', '{{online}}', 'online', 'A', '{{}}'),
            ({B}, {A}, {B}, 'queued', '{{online}}', NULL, 'B', '{{online}}'),
            ({C}, {B}, {A}, 'cancelled', '{{online}}', NULL, 'C', '{{}}');
        INSERT INTO offers (id, offering_id, enrolment_id, place, expires_at, accept_digest, decline_digest)
        VALUES ({A}, {A}, {A}, 'online', now() + interval '1 day', 'yes', 'no');
        INSERT INTO enrolment_changes (enrolment_id, from_state, to_state, place, by_whom, why) VALUES
            ({B}, NULL, 'queued', NULL, 'learner', ''), ({A}, 'queued', 'offered', 'online', 'line', ''),
            ({C}, NULL, 'queued', NULL, 'learner', ''),
            ({C}, 'queued', 'cancelled', NULL, 'catalogue', 'offering_cancelled');
        {said(A, "SeatOffered")}; {said(B, "LearnerQueued")}; {said(C, "LearnerWithdrew")};
        INSERT INTO erasures (learner_id, by_whom, waits_for) VALUES ({D}, 'learner', '{{notifier}}');
    """,
    "notifier": f"""
        INSERT INTO notices (id, event_id, learner_id, offering_id, about, template, channel, state, attempts,
                             message_id, sent_at, sending_since) VALUES
            ({A}, 'e1', {A}, {A}, {A}, 'enrolled', 'email', 'sent', 1, '<a>', now(), now()),
            ({B}, 'e2', {A}, {A}, {A}, 'withdrawn', 'email', 'sending', 2, '<b>', NULL, now()),
            ({C}, 'partner_digest-p', {B}, {A}, {B}, 'partner_digest', 'email', 'due', 0, NULL, NULL, NULL);
        UPDATE notices SET resends = 1 WHERE state = 'sending';
        INSERT INTO inbox (consumer, event_id) VALUES ('notifier.enrolments', 'e1'), ('notifier.enrolments', 'e2');
        {said(A, "NoticeSent")};
        INSERT INTO webhooks (id, partner, url, events, secret) VALUES ({A}, 'p', 'https://x.example', '{{*}}', '');
        INSERT INTO webhook_deliveries (webhook_id, event_id, type, key, body, state, attempts, status_code,
                                        delivered_at, sending_since) VALUES
            ({A}, 'e1', 't', 'k', '', 'delivered', 1, 204, now(), now()),
            ({A}, 'e2', 't', 'k', '', 'sending', 1, NULL, NULL, now());
        INSERT INTO inbox (consumer, event_id) VALUES ('notifier.webhooks', 'e1'), ('notifier.webhooks', 'e2');
        {said(C, "CourseCreated", topic="partners.p.feed")};
        INSERT INTO inbox (consumer, event_id) SELECT 'notifier.webhooks', one FROM ({ON_FEEDS}) AS feed (one);
        INSERT INTO erased (learner_id) VALUES ({D});
    """,
}
EVERYWHERE = f"""
    INSERT INTO inbox (consumer, event_id) VALUES ('x.y', 'heard');
    INSERT INTO parked (consumer, topic, partition, "offset", key, headers, reason, detail, state) VALUES
        ('x.y', 't', 0, 1, 'k', '[]', '', '', 'parked'), ('x.y', 't', 0, 2, 'k', '[]', 'held', '', 'held'),
        ('x.y', 'partners.q', 0, 1, 'k', '[]', 'quarantined', '', 'held'),
        ('x.y', 'partners.q', 0, 2, 'l', '[]', 'behind', '', 'held');
    UPDATE parked SET parked_at = {LATE} WHERE topic = 'partners.q';  -- waits for an operator, however long
    INSERT INTO idempotency VALUES ('c', 'r', 'k', 'h', 200, '{{}}', 'b');
"""
# Service, a part of the rule's sentence, and what breaks it.
BREACHES = [
    ("catalogue", "numbered without a gap", said(A, "CourseChanged", 3, "catalogue.courses", '{"version": 1}')),
    ("catalogue", "the last number that was given", "UPDATE outbox_sequence SET seq = 9"),
    ("catalogue", "waited for its topic", f"UPDATE outbox SET published_at = NULL, created_at = {LATE}"),
    (
        "catalogue",
        "heard each event once",
        "ALTER TABLE inbox DROP CONSTRAINT inbox_has_each_event_once; INSERT INTO inbox SELECT * FROM inbox",
    ),
    (
        "catalogue",
        "held back behind a record that is over",
        f"UPDATE parked SET state = 'redriven' WHERE state = 'parked'; UPDATE parked SET parked_at = {LATE}",
    ),
    ("catalogue", "kept for an Idempotency-Key", "UPDATE idempotency SET status = NULL"),
    ("catalogue", "each course and offering is its version", "UPDATE courses SET version = 2"),
    ("catalogue", "that changed in the last 13 days", "DELETE FROM outbox WHERE payload LIKE '%OfferingScheduled%'"),
    ("catalogue", "has no run that is open", "UPDATE offerings SET state = 'scheduled'"),
    ("catalogue", "waits for its partner's decision", f"UPDATE offerings SET state = 'cancelled' WHERE id = {D}"),
    ("enrolment", "as many seats are taken", f"UPDATE places SET taken = 0 WHERE offering_id = {A}"),
    (
        "enrolment",
        "two seats, or stands twice",
        f"DROP INDEX enrolments_one_live; UPDATE enrolments SET learner_id = {A} WHERE id = {B}",
    ),
    (
        "enrolment",
        "given back that had not been taken",
        "UPDATE enrolment_changes SET from_state = 'associated', from_place = 'online' WHERE to_state = 'cancelled'",
    ),
    ("enrolment", "the line is as long", f"UPDATE places SET queued = 2 WHERE offering_id = {A}"),
    ("enrolment", "each block of a line counts", "UPDATE line_blocks SET waiting = waiting + 1"),
    ("enrolment", "a minute after its hour", f"UPDATE offers SET expires_at = {LATE}"),
    ("enrolment", "who has an offer has a seat kept", "UPDATE offers SET ended_at = now(), outcome = 'lapsed'"),
    ("enrolment", "free that somebody stands in line for", f"UPDATE places SET capacity = 2 WHERE offering_id = {A}"),
    ("enrolment", "that goes on after all", f"UPDATE offerings SET over_since = now() WHERE id = {A}"),
    ("enrolment", "passed over", FIRST_BY_GROUP),
    ("enrolment", "passed over", f"{MOVED}; {FIRST_BY_GROUP}"),
    ("enrolment", "passed over", f"{REGROUPED}; {OFFERED_AFTER}; {MOVED}; {FIRST_BY_GROUP}"),
    ("enrolment", "passed over", f"{IN_FRONT}; {REGROUPED}"),
    ("enrolment", "passed over", f"{IN_FRONT}; {REGROUPED}; UPDATE enrolments SET group_name = 'g'"),
    ("enrolment", "passed over", f"{IN_FRONT}; {OF_GROUPS}; UPDATE enrolments SET put_back = true WHERE id = {A}"),
    ("enrolment", "what its last change made of it", f"DELETE FROM enrolment_changes WHERE enrolment_id = {B}"),
    ("enrolment", "in an offering that was cancelled", f"UPDATE offerings SET cancelled = true WHERE id = {A}"),
    ("enrolment", "the last that was said of each enrolment", said(A, "LearnerQueued", 2)),
    ("enrolment", "for three days", "UPDATE erasures SET asked_at = now() - interval '73 hours'"),
    ("enrolment", "whoever was forgotten", f"INSERT INTO learners VALUES ({D}, 'i', 'd')"),
    ("enrolment", "was spoken of", f"DELETE FROM outbox WHERE subject = {B}"),
    (
        "notifier",
        "told of once",
        "ALTER TABLE notices DROP CONSTRAINT notices_once; UPDATE notices SET event_id = 'e1'",
    ),
    ("notifier", "as often as it was tried again", "UPDATE notices SET resends = attempts"),
    ("notifier", "has its Message-ID", f"UPDATE notices SET sent_at = NULL WHERE id = {A}"),
    ("notifier", "in hand for more than two minutes", f"UPDATE notices SET sending_since = {LATE}"),
    ("notifier", "what became of each notice", f"DELETE FROM outbox WHERE subject = {A}"),
    ("notifier", "for an event that was heard", "DELETE FROM inbox WHERE event_id = 'e1'"),
    ("notifier", "owed to a webhook once", "DELETE FROM inbox WHERE event_id = 'e1'"),
    ("notifier", "on a partner's feed", f"DELETE FROM inbox WHERE event_id IN ({ON_FEEDS})"),
    ("notifier", "what a webhook has taken", "UPDATE webhook_deliveries SET status_code = 302"),
    (
        "notifier",
        "nobody who was forgotten",
        f"INSERT INTO contacts (learner_id, email, language, epoch, seq) VALUES ({D}, 'd', 'nb', 1, 1)",
    ),
    ("notifier", "no call of a webhook", f"UPDATE webhook_deliveries SET sending_since = {LATE}"),
]


def paths(service: str) -> list[Path]:
    return [audit.KIT, ROOT / "services" / service / "audit.sql"]


@pytest.fixture(scope="module")
async def databases(servers: Servers) -> Any:
    """Settings of a whole database for each service."""
    found = {}
    for service in SERVICES:
        found[service] = settings = await servers.database()
        conn = await connect(settings, "migrate")
        try:
            await migrations.migrate(conn, [migrations.KIT, ROOT / "services" / service / "migrations"])
            await conn.execute(WHOLE[service] + EVERYWHERE)
        finally:
            await conn.close()
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_a_database_that_is_whole_breaks_no_rule_and_gives_each_something_to_look_at(
    databases: Any, service: str
) -> None:
    for one in await audit.look(databases[service], paths(service)):
        assert one.wrong == 0, one
        assert one.looked > 0, one


@pytest.mark.parametrize(("service", "words", "breach"), BREACHES, ids=[f"{one[0]}-{one[1]}" for one in BREACHES])
async def test_what_breaks_a_rule_is_found_and_named(databases: Any, service: str, words: str, breach: str) -> None:
    [rule] = [rule for path in paths(service) for rule in audit.rules(path) if words in rule.words]
    conn = await connect(databases[service], "test")
    try:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(breach)
        row = await conn.fetchrow(rule.statement)
        await transaction.rollback()
    finally:
        await conn.close()
    assert row is not None
    assert row["wrong"] > 0
    assert row["example"]


@pytest.mark.parametrize(
    "since",
    [
        pytest.param(f"{FIRST_BY_GROUP}; {OF_GROUPS}", id="the groups have changed"),
        pytest.param(f"{FIRST_BY_GROUP}; {OF_GROUPS}; {MOVED}", id="the groups have changed, and the hours later"),
        pytest.param(f"{IN_FRONT}; {OF_GROUPS}", id="the groups have changed, and it was the first's turn by others"),
        pytest.param(
            f"{IN_FRONT}; INSERT INTO enrolment_changes (enrolment_id, from_state, to_state, by_whom, why) "
            f"VALUES ({B}, 'pending', 'queued', 'partner', 'approved')",
            id="came into the line later",
        ),
        pytest.param(
            f"{IN_FRONT}; INSERT INTO enrolment_changes (enrolment_id, from_state, to_state, by_whom, why) VALUES "
            f"({B}, 'pending', 'queued', 'partner', 'approved'), ({A}, 'offered', 'offered', 'catalogue', '')",
            id="came into the line before the offer was made anew",
        ),
    ],
)
async def test_who_was_not_in_front_when_a_seat_was_offered_was_not_passed_over(databases: Any, since: str) -> None:
    [rule] = [rule for rule in audit.rules(paths("enrolment")[1]) if "passed over" in rule.words]
    conn = await connect(databases["enrolment"], "test")
    try:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(since)
        row = await conn.fetchrow(rule.statement)
        await transaction.rollback()
    finally:
        await conn.close()
    assert row is not None
    assert (row["looked"], row["wrong"]) == (1, 0)


def test_each_rule_has_a_breach() -> None:
    rules = {rule.words for service in SERVICES for path in paths(service) for rule in audit.rules(path)}
    assert len(rules) > 15
    found = {rule for rule in rules for _, words, _ in BREACHES if words in rule}
    assert found == rules


async def test_an_audit_cannot_write(databases: Any, tmp_path: Path) -> None:
    path = tmp_path / "audit.sql"
    path.write_text("-- V1: a rule that writes\nDELETE FROM outbox;")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await audit.look(databases["catalogue"], [path])
