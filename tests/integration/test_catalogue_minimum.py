"""What enrolment finds of a run's minimum, and what the catalogue makes of it, over a real Kafka."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer

from contracts.enrolment import (
    LearnerEnrolled,
    MinimumAtRisk,
    MinimumEvent,
    MinimumMissed,
    MinimumReached,
    OfferingFilled,
    SeatCount,
)
from contracts.envelope import Envelope, Event, aggregate_of, encode, wrap
from contracts.partner import OfferingDates
from contracts.topics import owned_by
from deploy.local.stack import Stack
from kit import switch, topics
from kit.database import Connection, connect
from services.catalogue import commands, domain, events, retracting
from services.catalogue.commands import Published
from services.catalogue.store import views
from tests.delivery import Servers, listening, somebody_waits, until
from tests.integration.corpus import COURSE, DATES
from tests.integration.test_catalogue import BASE, World, world
from tests.integration.test_catalogue_rules import days_from_now, told

pytestmark = pytest.mark.anyio

GROUP = "catalogue.enrolments"
STARTS_AT = datetime(2049, 3, 1, 8, tzinfo=UTC)
DECIDE_AT = STARTS_AT - timedelta(days=14)
RULES = {"minimum": 8, "decide_at": DECIDE_AT.isoformat()}


@asynccontextmanager
async def judging(servers: Servers) -> AsyncIterator[World]:
    """A catalogue that listens to enrolment."""
    await topics.declare(servers.kafka, owned_by("enrolment"))
    async with world(servers) as here, listening(here.here, events.enrolments()):
        yield here


class Enrolment:
    """Speaks of runs as enrolment's relay does, and waits until the catalogue has heard it."""

    def __init__(self, here: World, group: str = GROUP) -> None:
        self.here = here
        self.group = group
        self.seqs: dict[str, int] = {}

    async def found(
        self, kind: type[MinimumEvent], run: dict[str, Any], enrolled: int = 3, heard: bool = True, **more: Any
    ) -> Envelope:
        """Say this of a run, as it reads over HTTP; `more` stands in the place of its own rules."""
        about = {"offering_id": run["offering_id"], "course_id": run["course_id"], "partner": run["partner"]}
        seats = [SeatCount(arena="online", capacity=12, taken=enrolled, queued=0)]
        if kind is MinimumMissed:
            more = {"on_too_few": run["on_too_few"], **more}
        rules = {"minimum": run["minimum"], "decide_at": run["decide_at"], **more}
        [said] = await self.say([kind(**about, seats=seats, enrolled=enrolled, **rules)], heard)
        return said

    async def say(self, said: Sequence[Event], heard: bool = True) -> list[Envelope]:
        envelopes = []
        for event in said:
            seq = self.seqs[aggregate_of(event)] = self.seqs.get(aggregate_of(event), 0) + 1
            event_id, now = uuid.uuid4(), datetime.now(UTC)
            envelopes.append(wrap(event, id=event_id, source="/enrolment", time=now, epoch=1, seq=seq))
        await self.put(envelopes, heard)
        return envelopes

    async def put(self, envelopes: Sequence[Envelope], heard: bool = True) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.here.settings.kafka_bootstrap)
        await producer.start()
        try:
            for one in envelopes:
                key = str(one.partitionkey).encode()
                await producer.send_and_wait("enrolment.enrolments", encode(one), key=key)
        finally:
            await producer.stop()
        if heard:
            await self.heard(envelopes)

    async def heard(self, envelopes: Sequence[Envelope]) -> None:
        ids = [one.id for one in envelopes]

        async def all_of_them() -> bool:
            async with self.here.here.database.reading() as conn:
                count = await conn.fetchval(
                    "SELECT count(*) FROM inbox WHERE consumer = $1 AND event_id = ANY($2)", self.group, ids
                )
            return bool(count == len(ids))

        await until(all_of_them, within_s=40)


async def publish(here: World, key: str = "v27", **rules: Any) -> dict[str, Any]:
    """A run with a minimum, as it reads over HTTP."""
    await here.put("SV-1", COURSE)
    made = await here.put(f"SV-1/offerings/{key}", DATES | RULES | rules)
    assert made.status_code in (200, 201), made.text
    return await shown(here, made.json()["offering_id"])


async def shown(here: World, offering_id: str) -> dict[str, Any]:
    answer = await here.asking.get(f"{BASE}/offerings/{offering_id}")
    run: dict[str, Any] = answer.json()
    assert answer.headers["etag"] == f'"{run["version"]}"'
    course = (await here.asking.get(f"{BASE}/courses/{run['course_id']}")).json()
    [listed] = [one for one in course["offerings"] if one["offering_id"] == offering_id]
    assert listed.items() <= run.items()
    return run


async def judgement(here: World, run: dict[str, Any]) -> tuple[str, int | None, int | None]:
    found = (await shown(here, run["offering_id"]))["judgement"]
    assert (found["decided_at"] is None) == (found["decision"] == "none")
    return found["decision"], found["enrolled"], found["minimum"]


async def said(here: World) -> list[tuple[str, int]]:
    """What the catalogue has told of its runs: (event, version)."""
    return [one for one in await here.said() if one[0].startswith("Offering")]


async def parked(here: World) -> int:
    async with here.here.database.reading() as conn:
        return int(await conn.fetchval("SELECT count(*) FROM parked WHERE consumer = $1", GROUP))


async def enough_is_said_three_times(here: World, enrolment: Enrolment) -> dict[str, Any]:
    """Once, the same event again, and another event that says the same."""
    run = await publish(here)
    first = await enrolment.found(MinimumReached, run, enrolled=9)
    await enrolment.put([first])
    await enrolment.found(MinimumReached, run, enrolled=10)
    return run


async def test_a_run_with_its_minimum_is_confirmed_once(servers: Servers) -> None:
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        run = await enough_is_said_three_times(here, enrolment)
        assert await said(here) == [("OfferingScheduled", 1), ("OfferingConfirmed", 2)]
        [confirmed] = await told(here, "OfferingConfirmed")
        assert (confirmed["enrolled"], confirmed["minimum"], confirmed["partner"]) == (9, 8, here.partner)
        assert await judgement(here, run) == ("confirmed", 9, 8)
        assert (await shown(here, run["offering_id"]))["state"] == "scheduled"

        # Who was told that it takes place can rely on it, whatever is said of the same rules.
        await enrolment.found(MinimumMissed, run, on_too_few="cancel")
        await enrolment.found(MinimumAtRisk, run)
        assert await judgement(here, run) == ("confirmed", 9, 8)
        assert len(await said(here)) == 2
        assert await parked(here) == 0


async def test_without_the_look_at_what_is_known_it_is_confirmed_again(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control of the test before."""
    monkeypatch.setattr(domain, "says_more", lambda decision, known: True)
    async with judging(servers) as here:
        await enough_is_said_three_times(here, Enrolment(here))
        assert await said(here) == [("OfferingScheduled", 1), ("OfferingConfirmed", 2), ("OfferingConfirmed", 3)]


async def test_what_is_read_again_says_nothing_more(servers: Servers) -> None:
    began = datetime.now(UTC) - timedelta(seconds=5)
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        one, two = await publish(here), await publish(here, "h27", on_too_few="cancel")
        await enrolment.found(MinimumReached, one)
        await enrolment.found(MinimumMissed, two)
        before = await said(here)
        async with here.here.database.reading() as conn:
            await switch.replay(conn, GROUP, began)
        repeats = here.here.metrics.consumer_events.labels(GROUP, "repeat")

        async def both_again() -> bool:
            return float(repeats._value.get()) >= 2

        await until(both_again, within_s=40)
        assert await said(here) == before
        assert [kind for kind, _ in before].count("OfferingConfirmed") == 1
        assert [kind for kind, _ in before].count("OfferingCancelled") == 1


async def test_a_run_with_too_few_is_cancelled_when_its_rule_says_so_and_names_what_to_take_instead(
    servers: Servers,
) -> None:
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        run = await publish(here, on_too_few="cancel")
        same = (await here.put("SV-1/offerings/h27", DATES | days_from_now(60))).json()["offering_id"]
        await here.put("SV-2", COURSE)
        akin = (await here.put("SV-2/offerings/v27", DATES | days_from_now(30))).json()["offering_id"]

        first = await enrolment.found(MinimumMissed, run, enrolled=7)
        await enrolment.put([first])
        await enrolment.found(MinimumMissed, run, enrolled=7)
        [cancelled] = await told(here, "OfferingCancelled")
        assert (cancelled["reason"], cancelled["version"]) == ("too_few", 2)
        assert [one["offering_id"] for one in cancelled["alternatives"]] == [same, akin]
        assert await judgement(here, run) == ("too_few", 7, 8)
        assert (await shown(here, run["offering_id"]))["state"] == "cancelled"
        again = await here.cancel("SV-1/offerings/v27")
        assert (again.status_code, again.json()["version"]) == (200, 2)
        assert await parked(here) == 0


async def begins(here: World, run: dict[str, Any], at: str) -> None:
    """Let the run begin at this time, in SQL: nothing is said, and its minimum is as it was."""
    async with here.here.database.reading() as conn:
        await conn.execute(
            """
            UPDATE offerings SET content = content || jsonb_build_object('starts_at', app_now() + $2::text::interval)
            WHERE id = $1
            """,
            uuid.UUID(run["offering_id"]),
            at,
        )


async def test_a_run_that_has_begun_is_not_cancelled_by_a_judgement_that_comes_late(servers: Servers) -> None:
    """As when enrolment was away over the weekend: its learners sit in the classroom by then."""
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        late, soon = await publish(here, on_too_few="cancel"), await publish(here, "h27", on_too_few="cancel")
        await begins(here, late, "-1 second")
        await enrolment.found(MinimumMissed, late)
        assert await judgement(here, late) == ("too_few", 3, 8), "its office sees it"
        assert (await shown(here, late["offering_id"]))["state"] == "scheduled"
        assert await told(here, "OfferingCancelled") == []
        await begins(here, soon, "10 minutes")
        await enrolment.found(MinimumMissed, soon)
        assert (await shown(here, soon["offering_id"]))["state"] == "cancelled", "the control"


async def published_long_ago(here: World, key: str, run: OfferingDates) -> UUID:
    """As a record that has been read only now."""
    said_at = datetime.now(UTC) - timedelta(days=2)

    async def publish(conn: Connection) -> Published:
        return await commands.publish_offering(conn, here.partner, "SV-1", key, run, said_at=said_at)

    return (await here.here.database.run(publish)).id


async def test_a_run_that_came_after_its_day_is_not_cancelled_for_what_nobody_could_do(servers: Servers) -> None:
    """Its record lay unread until then: no learner had seen it, and its partner decides."""
    async with judging(servers) as here:
        await here.put("SV-1", COURSE)
        dates = DATES | days_from_now(30)
        ids = {}
        for key, day in (("late", -1), ("soon", 20)):
            rules = {"minimum": 8, "on_too_few": "cancel", "decide_at": days_from_now(day)["starts_at"]}
            ids[key] = await shown(here, str(await published_long_ago(here, key, OfferingDates(**(dates | rules)))))
        enrolment = Enrolment(here)
        for one in ids.values():
            await enrolment.found(MinimumMissed, one, enrolled=0)
            assert await judgement(here, one) == ("too_few", 0, 8)
        states = {key: (await shown(here, one["offering_id"]))["state"] for key, one in ids.items()}
        assert states == {"late": "scheduled", "soon": "cancelled"}
        async with here.here.database.reading() as conn:
            assert [one["key"] for one in await views.on_hold(conn, here.partner, 9)] == ["late"]


async def test_a_run_on_hold_is_marked_and_its_partner_decides(servers: Servers) -> None:
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        one, two = await publish(here), await publish(here, "h27")
        for run in (one, two):
            warned = await enrolment.found(MinimumAtRisk, run, enrolled=2)
            assert await judgement(here, run) == ("at_risk", 2, 8)
            await enrolment.found(MinimumMissed, run, enrolled=5)
            await enrolment.put([warned])
            await enrolment.found(MinimumMissed, run, enrolled=6)
            assert await judgement(here, run) == ("too_few", 5, 8)
            assert (await shown(here, run["offering_id"]))["state"] == "scheduled"
        assert await said(here) == [("OfferingScheduled", 1)] * 2  # nobody is told of what is not decided

        assert (await here.cancel("SV-1/offerings/v27")).json()["version"] == 2
        assert [one["offering_id"] for one in await told(here, "OfferingCancelled")] == [one["offering_id"]]
        await enrolment.found(MinimumReached, two, enrolled=8)  # enough have come after all
        assert await judgement(here, two) == ("confirmed", 8, 8)
        assert len(await told(here, "OfferingConfirmed")) == 1


async def test_another_day_makes_the_old_judgement_go_and_so_does_another_minimum_before_it(servers: Servers) -> None:
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        run = await publish(here)
        await enrolment.found(MinimumReached, run, enrolled=8)
        await publish(here, offer_hours=12)
        assert await judgement(here, run) == ("confirmed", 8, 8)  # the control: another rule leaves it
        later = {"decide_at": (DECIDE_AT + timedelta(days=1)).isoformat()}
        for changed in (later, later | {"minimum": 6}):
            await publish(here, **changed)
            assert await judgement(here, run) == ("none", None, None)
            known = await shown(here, run["offering_id"])
            await enrolment.found(MinimumAtRisk, known, enrolled=4)
            assert await judgement(here, run) == ("at_risk", 4, known["minimum"])

        # What was found by rules that are no longer so says nothing of the run.
        last = await publish(here, **later, minimum=5, on_too_few="cancel")
        await enrolment.found(MinimumMissed, last, minimum=6)
        await enrolment.found(MinimumMissed, last, decide_at=DECIDE_AT)
        assert await judgement(here, run) == ("none", None, None)
        assert (await shown(here, run["offering_id"]))["state"] == "scheduled"
        await enrolment.found(MinimumMissed, last, on_too_few="hold")  # the run's own rule counts, as it is now
        assert (await shown(here, run["offering_id"]))["state"] == "cancelled"


async def test_another_minimum_after_the_day_can_only_better_what_was_found(servers: Servers) -> None:
    """A run on hold stays so until it is judged by the new one; who was told that it takes place relies on it."""
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        run = await publish(here)
        await enrolment.found(MinimumMissed, run, enrolled=5)
        fewer = await publish(here, minimum=6)
        assert await judgement(here, run) == ("too_few", 5, 8)
        async with here.here.database.reading() as conn:
            assert [one["key"] for one in await views.on_hold(conn, here.partner, 9)] == ["v27"], "it can be answered"
        await enrolment.found(MinimumMissed, fewer, enrolled=4)
        assert await judgement(here, run) == ("too_few", 4, 6)
        await enrolment.found(MinimumReached, await publish(here, minimum=4), enrolled=4)
        assert await judgement(here, run) == ("confirmed", 4, 4)

        more = await publish(here, minimum=12, on_too_few="cancel")
        assert await judgement(here, run) == ("confirmed", 4, 4)
        await enrolment.found(MinimumMissed, more, enrolled=4)
        assert await judgement(here, run) == ("confirmed", 4, 4)
        assert (await shown(here, run["offering_id"]))["state"] == "scheduled"
        assert len(await told(here, "OfferingConfirmed")) == 1
        assert await parked(here) == 0


async def test_a_run_that_was_cancelled_meanwhile_is_not_judged(servers: Servers) -> None:
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        run = await publish(here)
        await here.cancel("SV-1/offerings/v27")
        for kind in (MinimumAtRisk, MinimumReached):
            await enrolment.found(kind, run)
        assert await judgement(here, run) == ("none", None, None)
        assert await said(here) == [("OfferingScheduled", 1), ("OfferingCancelled", 2)]


async def test_what_is_not_of_a_minimum_or_not_of_our_runs_passes_by(servers: Servers) -> None:
    async with judging(servers) as here:
        enrolment = Enrolment(here)
        run = await publish(here)
        about = {name: run[name] for name in ("offering_id", "course_id", "partner")}
        somebody = LearnerEnrolled(**about, enrolment_id=uuid.uuid4(), learner_id=uuid.uuid4(), place="online")
        await enrolment.say([somebody, OfferingFilled(**about, seats=[])])
        await enrolment.found(MinimumReached, run | {"offering_id": str(uuid.uuid4())})
        await enrolment.found(MinimumMissed, run | {"offering_id": str(uuid.uuid4()), "on_too_few": "cancel"})
        assert await judgement(here, run) == ("none", None, None)
        assert await said(here) == [("OfferingScheduled", 1)]
        assert await parked(here) == 0
        await enrolment.found(MinimumReached, run)  # the control: it does listen
        assert (await judgement(here, run))[0] == "confirmed"


async def cancelled_while_it_is_judged(here: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The partner's cancelling is under way, and not committed, while the catalogue hears that enough have come."""
    enrolment = Enrolment(here)
    run = await publish(here)
    begun = asyncio.Event()
    judge = commands.judge

    async def noted(conn: Connection, course: Any, event: MinimumEvent) -> None:
        begun.set()
        await judge(conn, course, event)

    monkeypatch.setattr(commands, "judge", noted)
    conn = await connect(here.settings, "test")

    try:
        async with conn.transaction():
            await retracting.cancel(conn, here.partner, "SV-1", "v27")
            reached = await enrolment.found(MinimumReached, run, heard=False)
            await until(lambda: somebody_waits(here.here.database), within_s=40)
    finally:
        await conn.close()
    await enrolment.heard([reached])
    assert begun.is_set()
    return await said(here)


async def test_a_run_that_is_cancelled_while_it_is_judged_stays_cancelled(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with judging(servers) as here:
        assert await cancelled_while_it_is_judged(here, monkeypatch) == [
            ("OfferingScheduled", 1),
            ("OfferingCancelled", 2),
        ]


async def test_without_the_courses_row_lock_it_is_confirmed_after_it_was_cancelled(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control of the test before."""

    async def read_without_lock(conn: Connection, offering_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Any]:
        rows = await conn.fetch(
            """
            SELECT offerings.id AS offering_id, courses.* FROM offerings JOIN courses ON courses.id = course_id
            WHERE offerings.id = ANY($1)
            """,
            offering_ids,
        )
        return {row["offering_id"]: row for row in rows}

    monkeypatch.setattr(events, "lock_courses_of", read_without_lock)
    async with judging(servers) as here:
        assert await cancelled_while_it_is_judged(here, monkeypatch) == [
            ("OfferingScheduled", 1),
            ("OfferingCancelled", 2),
            ("OfferingConfirmed", 3),
        ]


async def test_the_catalogue_serves_before_enrolment_has_made_its_topic_and_hears_it_then(tmp_path: Path) -> None:
    with Stack.somewhere(tmp_path / "home", programs=("postgres", "kafka")) as stack:
        own = Servers(admin=stack.places.database("admin"), kafka=stack.places.address("kafka"))
        await topics.declare(own.kafka, owned_by("catalogue"))
        async with world(own) as here, listening(here.here, events.enrolments()):
            run = await publish(here)
            await topics.declare(own.kafka, owned_by("enrolment"))
            await Enrolment(here).found(MinimumReached, run)
            assert (await judgement(here, run))[0] == "confirmed"
        stack.stop()
    stack.reset()
