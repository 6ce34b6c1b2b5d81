"""Those in line are told how far up they have come: each once a day at most, and nobody of whom nothing has changed."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest

from contracts.envelope import decode
from kit import audit
from kit.parking import Record
from services.catalogue import events as catalogue
from services.enrolment import domain, offerings
from services.enrolment.app import MIGRATIONS
from services.enrolment.commands import Enrol
from services.enrolment.domain import Enrolment
from services.enrolment.store import enrolments, times
from tests.delivery import Servers
from tests.integration.test_offers import full
from tests.seats import World, acting, world

pytestmark = pytest.mark.anyio

Said = list[tuple[str, int, int]]


async def told(here: World) -> Said:
    """(enrolment, place before, place now) of each time that somebody was told of a better place."""
    return [
        (data["enrolment_id"], data["before"], data["place_in_line"])
        for kind, data in await here.said()
        if kind == "LearnerAdvanced"
    ]


def morning(here: World) -> datetime:
    """When the line is told next."""
    return domain.next_hour(datetime.now(UTC), here.settings.line_told_at)


async def in_the_morning(here: World, days: int = 1) -> Said:
    """Let the clock look a little after the hour, so many days from now; what was said until then."""
    at = morning(here) + timedelta(days=days - 1)
    async with here.later(seconds=(at - datetime.now(UTC)).total_seconds() + 5) as then:
        await then.tick()
    return await told(here)


async def test_who_has_come_further_up_is_told_in_the_morning_and_not_before(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, [kari], [ola, per, liv] = await full(here, "ola", "per", "liv", in_days=30)
        await here.act("withdraw", kari)  # ola is offered the seat
        async with here.database.reading() as conn:
            await conn.execute("UPDATE timers SET due_at = app_now()")  # looked at for another reason
        assert await here.tick()
        assert await told(here) == []
        async with here.database.reading() as conn:
            await times.add_timers(conn, [(offering_id, morning(here))])
        assert await in_the_morning(here) == [(str(per.id), 2, 1), (str(liv.id), 3, 2)]
        assert [(await here.now(one)).place_in_line for one in (per, liv)] == [1, 2]
        assert await here.stands(ola) == [("offered", "online")]


async def test_nobody_is_told_a_place_in_a_line_for_what_takes_nobody_any_more(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(mosjoen=1, online=1, in_days=30)
        for who, place in (("kari", "mosjoen"), ("liv", "online")):
            await here.enrol(offering_id, who, place)
        first, second, third = [await here.enrol(offering_id, who, "mosjoen") for who in ("ola", "per", "anne")]
        both = await here.enrol(offering_id, "siri", "mosjoen", "online")
        await here.scheduled(offering_id=offering_id, online=1, in_days=30)
        await here.act("withdraw", first)
        assert await in_the_morning(here) == [(str(both.id), 4, 3)]
        await here.scheduled(offering_id=offering_id, mosjoen=1, online=1, in_days=30)
        await here.act("withdraw", second)
        assert (str(third.id), 3, 1) in await in_the_morning(here, 2), "it takes some again"


async def test_several_steps_of_a_day_are_told_as_one(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, _, [ola, per, liv] = await full(here, "ola", "per", "liv", in_days=30)
        await here.act("withdraw", ola)
        await here.act("withdraw", per)
        async with here.database.reading() as conn:
            hours = await conn.fetchval(
                "SELECT count(*) FROM timers WHERE offering_id = $1 AND due_at < app_now() + interval '2 days'",
                offering_id,
            )
        assert hours == 1, "the second step costs no timer"
        assert await in_the_morning(here) == [(str(liv.id), 3, 1)]


async def test_a_line_that_stands_still_is_told_nothing(servers: Servers) -> None:
    async with world(servers) as here:
        _, _, [ola, per, liv] = await full(here, "ola", "per", "liv", in_days=30)
        assert await in_the_morning(here) == []
        await here.act("withdraw", liv)  # nobody stands behind
        assert await in_the_morning(here) == []
        await here.act("withdraw", ola)
        assert await in_the_morning(here, 2) == [(str(per.id), 2, 1)]
        assert await in_the_morning(here, 3) == [(str(per.id), 2, 1)]


async def test_each_is_told_once_a_day_at_most(servers: Servers) -> None:
    """The stack was down in the morning, and the line moved just after it was told: the rest is for the next day."""
    async with world(servers) as here:
        offering_id, _, [ola, per, liv] = await full(here, "ola", "per", "liv", in_days=30)
        await here.act("withdraw", ola)
        first = [(str(per.id), 2, 1), (str(liv.id), 3, 2)]
        assert await in_the_morning(here) == first
        async with here.later(seconds=(morning(here) - datetime.now(UTC)).total_seconds() + 60) as then:
            await then.act("withdraw", per)
            async with then.database.reading() as conn:  # as if it were looked at again at once
                await conn.execute("UPDATE offerings SET tell_line_at = app_now() WHERE id = $1", offering_id)
                await conn.execute("INSERT INTO timers (offering_id, due_at) VALUES ($1, app_now())", offering_id)
            await then.tick()
        assert await told(here) == first
        assert await in_the_morning(here, 2) == [*first, (str(liv.id), 2, 1)]


async def test_who_was_put_at_the_back_is_told_of_the_next_step(servers: Servers) -> None:
    async with world(servers) as here:
        _, [kari], [ola, _, liv] = await full(here, "ola", "per", "liv", in_days=30)
        await here.act("withdraw", kari)
        await here.act("decline", ola, stay=True)  # per is offered the seat; liv, ola
        morning = await in_the_morning(here)
        assert morning == [(str(liv.id), 3, 1)], "ola was told: at the back, and no number"
        await here.act("withdraw", liv)
        assert await in_the_morning(here, 2) == [*morning, (str(ola.id), 2, 1)]


async def test_who_is_put_at_the_back_lets_others_up_who_wait_for_the_same(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, mosjoen=1, in_days=30)
        kari = await here.enrol(offering_id, "kari", "online")
        await here.enrol(offering_id, "siri", "mosjoen")
        ola = await here.enrol(offering_id, "ola", "mosjoen", "online")
        per = await here.enrol(offering_id, "per", "mosjoen")
        await here.act("withdraw", kari)  # ola is offered the seat online, and waits for the other
        assert await in_the_morning(here) == []
        await here.act("decline", ola, stay=True)
        assert await in_the_morning(here, 2) == [(str(per.id), 2, 1)]


async def test_places_are_counted_as_they_are_shown(servers: Servers) -> None:
    """Groups come first, some would take several places, and some who have a seat wait for a better one."""
    rules: dict[str, Any] = {"priority_groups": ["helse"]}
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, mosjoen=1, mo_i_rana=1, in_days=30, rules=rules)
        for place in ("online", "mosjoen", "mo-i-rana"):
            await here.enrol(offering_id, f"at-{place}", place)
        wishes = [("online",), ("mosjoen", "online"), ("mo-i-rana",), ("mosjoen",), ("online", "mo-i-rana")]
        line: list[Enrolment] = [
            await here.enrol(offering_id, f"w{n}", *wishes[n % 5], group="helse" if n % 4 == 3 else None)
            for n in range(30)
        ]
        for one in line[:20:3]:
            await here.act("withdraw", one)
        assert await in_the_morning(here)
        async with here.database.reading() as conn:
            rows = await conn.fetch("SELECT id, place_told FROM enrolments WHERE state = 'queued'")
        known = {row["id"]: row["place_told"] for row in rows}
        so = {one.id: (await here.now(one)).place_in_line for one in line if one.id in known}
        # A better place was told, and of a worse one, behind a group that came later, nobody is told.
        assert {one: place for one, place in so.items() if place is not None and place < known[one]} == {}
        better = {UUID(one): now for one, _, now in await told(here)}
        assert {one: so[one] for one in better} == better


async def test_nothing_is_told_of_a_line_that_leads_nowhere_any_more(servers: Servers) -> None:
    async with world(servers) as here:
        for end in ("cancelled", "begun", "open to all"):
            # Of the day after, so that it has not begun yet when the line is told within the hour.
            begins = morning(here) + timedelta(days=1, hours=-1 if end == "begun" else 6)
            in_days = (begins - datetime.now(UTC)) / timedelta(days=1)
            offering_id, _, [ola, _] = await full(here, "ola", "per", in_days=in_days, lasts_days=9)
            await here.act("withdraw", ola)
            if end == "cancelled":
                await here.cancelled(offering_id)
        assert await in_the_morning(here, 2) == []


async def test_groups_that_come_first_no_more_move_the_line(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, in_days=30, rules={"priority_groups": ["helse"]})
        await here.enrol(offering_id, "kari")
        liv = await here.enrol(offering_id, "liv", group="helse")
        ola = await here.enrol(offering_id, "ola")
        assert (liv.place_in_line, ola.place_in_line) == (1, 2)
        await here.act("withdraw", liv)
        await in_the_morning(here)
        siri = await here.enrol(offering_id, "siri", group="helse")
        assert (siri.place_in_line, (await here.now(ola)).place_in_line) == (1, 2)
        async with here.database.reading() as conn:
            await conn.execute("UPDATE enrolments SET place_told = 2 WHERE id = $1", ola.id)
        await here.scheduled(offering_id=offering_id, online=1, in_days=30)
        before = await told(here)
        assert await in_the_morning(here, 2) == [*before, (str(ola.id), 2, 1)]


async def test_who_has_a_seat_and_waits_for_a_better_is_told_no_place(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(mosjoen=1, online=1, in_days=30)
        await here.enrol(offering_id, "kari", "mosjoen")
        ola, per = [await here.enrol(offering_id, who, "mosjoen") for who in ("ola", "per")]
        siri = await here.enrol(offering_id, "siri", "mosjoen", "online")
        assert await here.stands(siri) == [("associated", "online")]
        await here.act("withdraw", ola)
        first = await in_the_morning(here)
        assert first == [(str(per.id), 2, 1)]
        liv = await here.enrol(offering_id, "liv", "mosjoen")
        await here.act("withdraw", per)  # siri and liv, who have come up by one
        assert await in_the_morning(here, 2) == [*first, (str(liv.id), 3, 2)]


async def test_places_are_the_same_counted_one_by_one(servers: Servers) -> None:
    """A line of several blocks, of two ranks and of learners who wait for different places; some have left it."""
    wishes = [("online",), ("mosjoen", "online"), ("mosjoen",), ("mo-i-rana",), ("mo-i-rana", "mosjoen")]
    async with world(servers) as here:
        rules: dict[str, Any] = {"priority_groups": ["helse"]}
        offering_id = await here.scheduled(online=0, mosjoen=0, mo_i_rana=0, in_days=30, rules=rules)
        asked = [
            Enrol(offering_id, ("issuer", f"w{n}"), wishes[n % 5], "Kari", group="helse" if n % 7 == 0 else None)
            for n in range(700)
        ]
        line = [await here.decide(asked[0]), *await here.decided(asked[1:])]
        told = [one.place_in_line for one in line[-3:]]
        assert [(await here.now(one)).place_in_line for one in line[-3:]] == told, (
            "so they were answered when they asked"
        )
        await here.decided([acting("withdraw", one.id) for one in line[::3]])
        async with here.database.reading() as conn:
            known = await enrolments.enrolments(conn, [one.id for one in line])
            rows = await conn.fetch("SELECT DISTINCT block FROM line_blocks WHERE offering_id = $1", offering_id)
        assert len(rows) >= 3
        left = sorted((one for one in known.values() if one.state == "queued"), key=lambda o: (o.rank, o.queue_number))
        assert len(left) == 700 - 234
        for number, one in enumerate(left):
            front = [other for other in left[:number] if not set(other.waiting_for).isdisjoint(one.choices)]
            assert one.place_in_line == len(front) + 1


async def test_blocks_that_do_not_count_what_stands_there_are_found(servers: Servers) -> None:
    """The rule of the audit sees it, whichever way: too many, none, and one that nobody stands in."""
    rule = next(one for one in audit.rules(MIGRATIONS.parent / "audit.sql") if "each block of a line" in one.words)
    async with world(servers) as here:
        _, _, [_, per] = await full(here, "ola", "per", in_days=30)
        async with here.database.reading() as conn:

            async def wrong() -> int:
                row = await conn.fetchrow(rule.statement)
                assert row is not None
                return int(row["wrong"])

            await conn.execute("UPDATE enrolments SET rank = 4")
            assert await wrong() == 0, "who has got another rank is counted there"
            await conn.execute("TRUNCATE enrolment_changes")
            await conn.execute("DELETE FROM enrolments WHERE id = $1", per.id)
            assert await wrong() == 0, "who is deleted is counted no more"
            for harm in (
                "UPDATE line_blocks SET waiting = waiting + 1",
                "UPDATE line_blocks SET rank = 3",
                "DELETE FROM line_blocks",
            ):
                await conn.execute(harm)
                assert await wrong()


LONG = 10_000


async def test_ten_thousand_in_line_are_told_by_transactions_that_hold_the_offering_for_a_moment(
    servers: Servers,
) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, in_days=30)
        [kari] = await here.together(offering_id, range(1))
        for first in range(1, LONG + 1, 1_000):
            await here.together(offering_id, range(first, first + 1_000))
        await here.act("withdraw", kari)  # one is offered the seat, 9,999 move up
        async with here.later(seconds=(morning(here) - datetime.now(UTC)).total_seconds() + 5) as then:
            loop, longest, count = asyncio.get_running_loop(), 0.0, 0
            while True:
                before, began = count, loop.time()
                if not await then.database.run(then._next):
                    break
                longest = max(longest, loop.time() - began)
                async with here.database.reading() as conn:
                    count = await conn.fetchval(
                        "SELECT count(*) FROM outbox WHERE convert_from(payload, 'UTF8') LIKE '%LearnerAdvanced.v1%'"
                    )
                assert count - before <= offerings.AT_ONCE
        assert count == LONG - 1
        assert longest < 3, "nobody waits for the offering's row for seconds"
        assert set(Counter(one for one, _, _ in await told(here)).values()) == {1}


async def test_the_catalogue_passes_over_it(servers: Servers) -> None:
    """Nothing there goes by places in line: whether a run has learners enough, and who is enrolled, is so as before."""
    async with world(servers) as here:
        _, _, [ola, _] = await full(here, "ola", "per", in_days=30)
        await here.act("withdraw", ola)
        assert len(await in_the_morning(here)) == 1
        async with here.database.reading() as conn:
            rows = await conn.fetch("SELECT payload FROM outbox ORDER BY id")
        [value] = [row["payload"] for row in rows if decode(row["payload"], []).type.endswith("LearnerAdvanced.v1")]
        for listeners in (catalogue.judgements, catalogue.enrolled):
            assert listeners.read(Record("enrolment.enrolments", 0, 1, b"k", (), value)).event is None


@pytest.mark.parametrize(
    ("now", "clock", "then"),
    [
        ("2026-11-26T05:59:00+00:00", time(7), "2026-11-26T06:00:00+00:00"),
        ("2026-11-26T06:00:00+00:00", time(7), "2026-11-27T06:00:00+00:00"),
        ("2027-03-27T06:00:00+00:00", time(7), "2027-03-28T05:00:00+00:00"),  # a day of 23 hours
        ("2027-10-30T05:00:00+00:00", time(7), "2027-10-31T06:00:00+00:00"),  # one of 25
        ("2027-03-28T00:00:00+00:00", time(2, 30), "2027-03-28T01:30:00+00:00"),  # 02.30 is not there: 03.30
    ],
)
def test_the_hour_is_by_the_clock_in_oslo(now: str, clock: time, then: str) -> None:
    assert domain.next_hour(datetime.fromisoformat(now), clock) == datetime.fromisoformat(then)
