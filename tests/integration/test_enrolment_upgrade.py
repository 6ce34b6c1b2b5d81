"""A database from before offers is brought up to date with its lines, its seats and its story whole."""

import shutil
from pathlib import Path

import pytest

from kit import audit, migrations
from kit.database import connect
from services.enrolment.app import MIGRATIONS
from tests.delivery import Servers

pytestmark = pytest.mark.anyio

BEFORE = """
INSERT INTO offerings VALUES
    ('00000000-0000-0000-0000-00000000000a', gen_random_uuid(), 'p', 1, now() + interval '9 days',
     now() + interval '10 days', false);
INSERT INTO places (offering_id, arena, number, wanted_capacity, capacity, taken)
SELECT id, arena, 1, 1, 1, 1 FROM offerings, unnest(ARRAY['online', 'mosjoen']) AS arena;
INSERT INTO learners (issuer, subject) SELECT 'i', 'learner-' || n FROM generate_series(1, 5) AS n;
INSERT INTO enrolments (offering_id, learner_id, state, choices, place, name)
SELECT o.id, l.id, v.state, v.choices, v.place, l.subject
FROM offerings o, learners l JOIN (VALUES
    ('learner-1', 'associated', '{online}'::text[], 'online'), ('learner-2', 'associated', '{mosjoen}', 'mosjoen'),
    ('learner-3', 'queued', '{online}', NULL), ('learner-4', 'queued', '{mosjoen,online}', NULL),
    ('learner-5', 'cancelled', '{online}', NULL)
) AS v (subject, state, choices, place) USING (subject);
INSERT INTO enrolment_changes (enrolment_id, from_state, to_state, place, by_whom, why)
SELECT id, NULL, CASE WHEN state = 'cancelled' THEN 'associated' ELSE state END,
       CASE WHEN state = 'cancelled' THEN 'online' ELSE place END, 'learner', 'asked' FROM enrolments
UNION ALL
SELECT id, 'associated', 'cancelled', 'online', 'learner', 'withdrawn' FROM enrolments WHERE state = 'cancelled';
INSERT INTO offerings SELECT gen_random_uuid(), course_id, partner, 2, starts_at, ends_at, false FROM offerings;
"""
UNSAID = ("V3",)  # nothing was said in this made-up story


async def test_lines_seats_and_story_are_whole_after_the_upgrade(servers: Servers, tmp_path: Path) -> None:
    settings = await servers.database()
    old = tmp_path / "enrolment" / "migrations"
    old.mkdir(parents=True)
    shutil.copy(MIGRATIONS / "0001_enrolment.sql", old)
    conn = await connect(settings, "migrate")
    try:
        await migrations.migrate(conn, [migrations.KIT, old])
        await conn.execute(BEFORE)
        await migrations.migrate(conn, [migrations.KIT, MIGRATIONS])
        places = await conn.fetch("SELECT arena, taken, queued FROM places ORDER BY arena")
        assert [tuple(row) for row in places] == [("mosjoen", 1, 1), ("online", 1, 2)]
        changes = await conn.fetch("SELECT from_place, place FROM enrolment_changes WHERE to_state = 'cancelled'")
        assert [tuple(row) for row in changes] == [("online", None)]
        looks = "SELECT count(*) FROM timers JOIN offerings o ON o.id = offering_id WHERE due_at = "
        for hour in ("o.ends_at", "o.starts_at"):  # when it is over, and when enrolment closes
            assert await conn.fetchval(looks + hour) == 2
        ranked = await conn.fetch("SELECT ranked_after FROM offerings ORDER BY version")
        assert [row[0] for row in ranked] == [0, 6]  # of what has changed before nobody knows whether its groups have
    finally:
        await conn.close()
    found = await audit.look(settings, [audit.KIT, MIGRATIONS.parent / "audit.sql"])
    assert [one.words for one in found if one.wrong and one.invariant not in UNSAID] == []
