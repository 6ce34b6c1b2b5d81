"""What one partner's program does wrong is that partner's alone: the others' courses are taken as if it did not."""

import asyncio
import os
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts.partner import CourseText
from kit import fetching, parking
from kit.database import Connection, connect
from kit.effects import Effects
from services.catalogue import commands, deciding, events, joining
from services.catalogue import operating as catalogue
from services.catalogue.quarantine import Quarantine, Watch
from services.catalogue.store import courses, intake, partners
from tests.delivery import Servers, listening, somebody_waits, until
from tests.integration.corpus import COURSE, COURSE_CELLS, DATES, RUN_CELLS
from tests.integration.test_catalogue import BASE, World, world
from tests.integration.test_catalogue_partners import change
from tests.integration.test_corpus import upload

pytestmark = pytest.mark.anyio

WRONG = {"code": "SV-9", **COURSE, "subjects": ["magi"]}
LIMIT = 20  # the setting's default


def course(number: int, **more: Any) -> tuple[str, dict[str, Any]]:
    return "CoursePublished", {"code": f"SV-{number}", **COURSE, **more}


async def outcomes(here: World) -> list[tuple[str, str | None]]:
    return [(one["outcome"], one["reason"]) for one in await here.intake()]


async def counted(here: World, outcome: str, reason: str | None, count: int) -> bool:
    return (await outcomes(here)).count((outcome, reason)) == count


async def state(here: World) -> str:
    [row] = [one for one in await catalogue.listed(here.settings) if one["slug"] == here.partner]
    return str(row["state"])


async def test_a_partner_whose_records_are_refused_waits_alone_and_runs_on_in_its_order(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        other = f"{here.partner}-b"
        key = (await catalogue.add(here.settings, other, "En annen", None, ["online"]))["key"]
        mad = here.partner
        await here.send(*[("CoursePublished", WRONG)] * (LIMIT + 5), course(1), course(1, price_ore=500))
        await until(lambda: counted(here, "parked", "quarantined", 7), within_s=40)
        assert (await outcomes(here)).count(("refused", "unknown_subject")) == LIMIT
        assert await state(here) == "quarantined"
        assert (await here.said())[-1] == ("PartnerChanged", 2)
        assert (await here.put("SV-5", COURSE)).status_code == 201, "over HTTP it is told at once, and may go on"

        here.partner, here.key, mine = other, key, here.key
        await here.send(course(1))
        await until(lambda: counted(here, "taken", None, 1), within_s=40)
        assert await state(here) == "active"

        here.partner, here.key = mad, mine
        assert await change(here, lambda conn: joining.release(conn, mad)) == 7
        await until(lambda: counted(here, "taken", None, 3), within_s=40)  # the one over HTTP, and two of SV-1
        assert (await outcomes(here)).count(("refused", "unknown_subject")) == LIMIT + 5
        assert await state(here) == "active", "what was kept and is refused now does not count again"
        assert (await here.said())[-2:] == [("CourseCreated", 1), ("CourseChanged", 2)]
        await here.send(*[("CoursePublished", WRONG)] * (LIMIT - 1), course(2))
        await until(lambda: counted(here, "taken", None, 4), within_s=40)
        assert await state(here) == "active"


def run(key: str, seats: int) -> tuple[str, dict[str, Any]]:
    return "OfferingPublished", {"course_code": "SV-1", "key": key, **dates(seats)}


def dates(seats: int) -> dict[str, Any]:
    return DATES | {"places": [{"arena": "online", "capacity": seats}]}


async def shown(here: World) -> dict[str, tuple[str, int, int]]:
    """Each run of all courses: its state, seats and version."""
    async with here.here.database.reading() as conn:
        rows = await conn.fetch("SELECT key, state, content->'places'->0->>'capacity' AS seats, version FROM offerings")
    return {row["key"]: (row["state"], int(row["seats"]), row["version"]) for row in rows}


async def kept_and_let_go(here: World) -> None:
    """Records of three runs are kept, of two of them their office says something newer over HTTP, and all may run."""
    await here.put("SV-1", COURSE)
    for key in ("v27", "h27", "v28"):
        await here.put(f"SV-1/offerings/{key}", dates(15))
    await change(here, lambda conn: joining.quarantine(conn, here.partner, "test"))
    gone = "OfferingRetracted", {"course_code": "SV-1", "key": "h27", "confirmed": True}
    await here.send(run("v27", 20), gone, run("v28", 30), run("v28", 31))
    await until(lambda: counted(here, "parked", "quarantined", 4), within_s=40)
    assert (await here.put("SV-1/offerings/v27", dates(10))).headers["etag"] == '"2"'
    assert (await here.put("SV-1/offerings/h27", dates(15))).headers["etag"] == '"1"', "the same again is a word too"
    assert await change(here, lambda conn: joining.release(conn, here.partner)) == 4

    async def all_have_run() -> bool:
        return not [one for one in await outcomes(here) if one[0] == "parked"]

    await until(all_have_run, within_s=40)


async def test_what_waited_does_not_undo_what_its_partner_has_said_since(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        await kept_and_let_go(here)
        assert await shown(here) == {
            "v27": ("scheduled", 10, 2),
            "h27": ("scheduled", 15, 1),
            "v28": ("scheduled", 31, 3),  # what waited of another run has its effect, the one after the other
        }
        assert (await outcomes(here)).count(("refused", "overtaken")) == 2
        [told] = [one for one in await here.intake() if one["reason"] == "overtaken" and "Published" in one["what"]]
        assert (told["field"], told["detail"]) == ("key", f"key: {events.OVERTAKEN}")
        async with here.here.database.reading() as conn:
            refused = [
                row["id"] for row in await conn.fetch("SELECT id FROM parked WHERE state = 'refused' ORDER BY id")
            ]
        assert await change(here, lambda conn: parking.redrive(conn, refused, "test")) == refused
        await until(lambda: counted(here, "refused", "overtaken", 2), within_s=40)
        assert (await shown(here))["v27"] == ("scheduled", 10, 2), "an operator does not undo it by a redrive, either"
        await here.send(run("v27", 12))
        await until(lambda: counted(here, "taken", None, 9), within_s=40)
        assert (await shown(here))["v27"] == ("scheduled", 12, 3), "what comes after it is newer"


async def test_a_course_that_waits_to_be_retracted_stays_when_one_of_its_runs_was_published_since(
    servers: Servers,
) -> None:
    """In a file too, and when it was parked and not kept: an operator then says that it shall run again."""
    async with world(servers) as here, listening(here.here, events.partners()):
        codes = ("SV-1", "SV-2", "SV-3", "SV-4")
        for code in codes:
            await here.put(code, COURSE)
        await change(here, lambda conn: joining.quarantine(conn, here.partner, "test"))
        for code in codes:
            await here.send(("CourseRetracted", {"code": code, "confirmed": True}))
        await until(lambda: counted(here, "parked", "quarantined", 4), within_s=40)
        await here.put("SV-1/offerings/v27", DATES)
        assert (await upload(here, COURSE_CELLS | {"code": "SV-2"} | RUN_CELLS)).status_code == 200
        await change(here, lambda conn: deciding.keep(conn, None, here.partner, "SV-4", None))  # on its page
        await change(here, lambda conn: conn.execute("UPDATE parked SET state = 'parked'"))
        await change(here, lambda conn: joining.release(conn, here.partner))
        await change(here, lambda conn: parking.redrive(conn, [1, 2, 3, 4], "test"))
        await until(lambda: counted(here, "refused", "overtaken", 3), within_s=40)

        async def withdrawn() -> bool:
            async with here.here.database.reading() as conn:
                rows = await conn.fetch("SELECT code FROM courses WHERE withdrawn")
            return [row["code"] for row in rows] == ["SV-3"]

        await until(withdrawn, within_s=40)


async def test_a_run_that_waits_does_not_come_back_with_a_course_that_was_withdrawn_since(servers: Servers) -> None:
    """To withdraw a course is a word about each of its runs, also when the course is offered anew without them."""
    async with world(servers) as here, listening(here.here, events.partners()):
        for code in ("SV-1", "SV-2"):
            await here.put(code, COURSE)
        await change(here, lambda conn: joining.quarantine(conn, here.partner, "test"))
        other = "OfferingPublished", {"course_code": "SV-2", "key": "h27", **dates(20)}
        await here.send(run("v27", 20), other)
        await until(lambda: counted(here, "parked", "quarantined", 2), within_s=40)
        withdrawn = await here.asking.post(
            f"{BASE}/partners/{here.partner}/courses/SV-1/withdraw", headers={"authorization": f"Bearer {here.key}"}
        )
        assert withdrawn.status_code == 200
        for code in ("SV-1", "SV-2"):
            assert (await here.put(code, COURSE)).status_code == 200
        await change(here, lambda conn: joining.release(conn, here.partner))
        await until(lambda: counted(here, "parked", "quarantined", 0), within_s=40)
        assert await shown(here) == {"h27": ("scheduled", 20, 1)}
        assert await counted(here, "refused", "overtaken", 1)


async def unread(here: World, **written: Any) -> None:
    """A record that nobody reads lies there while its office says something newer over HTTP."""
    await here.put("SV-1", COURSE)
    assert (await here.put("SV-1/offerings/v27", dates(15))).status_code == 201
    await here.send(run("v27", 20), **written)
    await a_second_later(here)
    assert (await here.put("SV-1/offerings/v27", dates(10))).headers["etag"] == '"2"'


async def a_second_later(here: World) -> None:
    """The broker's clock is another, and gets a second."""
    async with here.here.database.reading() as conn:
        sent_at = await conn.fetchval("SELECT clock_timestamp()")

    async def later() -> bool:
        async with here.here.database.reading() as conn:
            return bool(await conn.fetchval("SELECT now() > $1::timestamptz + interval '1 second'", sent_at))

    await until(later, within_s=10)


async def test_a_new_course_is_as_it_was_said_last_also_when_both_make_it_in_the_same_moment(servers: Servers) -> None:
    """There is no row yet by which the one could wait for the other."""
    text: dict[str, Any] = COURSE
    async with world(servers) as here:
        await here.send(course(1, price_ore=100), run("v27", 20))
        await a_second_later(here)
        office = await connect(here.settings, "test")
        await office.execute("BEGIN")
        await commands.publish_course(office, here.partner, "SV-1", CourseText(**text, price_ore=900))
        await intake.note_intake(office, here.partner, "http", "CoursePublished", "SV-1", None)
        async with listening(here.here, events.partners()):
            await until(lambda: somebody_waits(here.here.database), within_s=40)
            await office.execute("COMMIT")
            await until(lambda: counted(here, "taken", None, 2), within_s=40)
        await office.close()
        assert await counted(here, "refused", "overtaken", 1)
        read = await here.asking.get(f"{BASE}/courses?partner={here.partner}&q=SV")
        assert [one["price_ore"] for one in read.json()["items"]] == [900]
        assert await shown(here) == {"v27": ("scheduled", 20, 1)}, "nothing was said of it since"


@pytest.mark.parametrize("written", [{}, {"timestamp_ms": 4_000_000_000_000}], ids=["now", "in 2096"])
async def test_what_is_read_late_does_not_undo_what_its_partner_has_said_since(
    servers: Servers, written: dict[str, int]
) -> None:
    """As when the catalogue was down. What the sender's own clock says of it counts for nothing."""
    async with world(servers) as here:
        await unread(here, **written)
        async with listening(here.here, events.partners()):
            await until(lambda: counted(here, "refused", "overtaken", 1), within_s=40)
            assert await shown(here) == {"v27": ("scheduled", 10, 2)}
            # Of its own topic the order counts, whatever the clock of its program.
            await here.send(run("v27", 12), timestamp_ms=0)
            await here.send(run("v27", 13), timestamp_ms=1)
            await here.send(run("v27", 14), timestamp_ms=0)
            await until(lambda: counted(here, "taken", None, 6), within_s=40)
        assert await shown(here) == {"v27": ("scheduled", 14, 5)}


async def test_without_the_brokers_time_what_is_read_late_undoes_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control."""
    monkeypatch.setattr(fetching, "written_ms", lambda _: None)
    async with world(servers) as here:
        await unread(here)
        async with listening(here.here, events.partners()):
            await until(lambda: counted(here, "taken", None, 4), within_s=40)
        assert await shown(here) == {"v27": ("scheduled", 20, 3)}


async def test_without_the_look_at_what_was_said_since_it_costs_people_their_seats(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control of the test before."""

    async def nothing(*_: Any, **__: Any) -> bool:
        return False

    monkeypatch.setattr(events, "said_since", nothing)
    async with world(servers) as here, listening(here.here, events.partners()):
        await kept_and_let_go(here)
        assert await shown(here) == {
            "v27": ("scheduled", 20, 3),
            "h27": ("cancelled", 15, 2),
            "v28": ("scheduled", 31, 3),
        }


async def test_how_many_may_be_refused_is_a_setting(servers: Servers) -> None:
    async with world(servers, quarantine_refused=3, quarantine_of=5) as here, listening(here.here, events.partners()):
        wrong = ("CoursePublished", WRONG)
        await here.send(wrong, wrong)
        await until(lambda: counted(here, "refused", "unknown_subject", 2), within_s=40)
        await here.send(*[course(9, price_ore=n) for n in range(4)])
        await until(lambda: counted(here, "taken", None, 4), within_s=40)
        assert await state(here) == "active"
        await here.send(wrong, wrong, course(9), wrong, course(9, price_ore=7))
        await until(lambda: counted(here, "parked", "quarantined", 1), within_s=40)
        assert (await outcomes(here)).count(("refused", "unknown_subject")) == 5, "three of the last five"
        assert await state(here) == "quarantined"


async def test_without_the_quarantine_it_would_go_on_for_ever(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control: with nobody counting, what follows the nonsense is taken, and the partner is let be."""

    async def nobody_counts(self: Watch, topic: str) -> None:
        return None

    monkeypatch.setattr(Watch, "refused", nobody_counts)
    async with world(servers) as here, listening(here.here, events.partners()):
        await here.send(*[("CoursePublished", WRONG)] * (LIMIT + 5), course(1))
        await until(lambda: counted(here, "taken", None, 1), within_s=40)
        assert (await outcomes(here)).count(("refused", "unknown_subject")) == LIMIT + 5
        assert await state(here) == "active"


async def test_were_it_not_the_partners_alone_the_others_would_wait_too(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control: a gate that is shut for all when it is shut for one keeps another partner's course."""
    monkeypatch.setattr(Watch, "closed", lambda self, topic: next(iter(self._closed.values()), ""))
    async with world(servers) as here, listening(here.here, events.partners()):
        other = f"{here.partner}-b"
        key = (await catalogue.add(here.settings, other, "En annen", None, ["online"]))["key"]
        await here.send(*[("CoursePublished", WRONG)] * LIMIT)
        await until(lambda: counted(here, "refused", "unknown_subject", LIMIT), within_s=40)
        here.partner, here.key = other, key
        await here.send(course(1))
        await until(lambda: counted(here, "parked", "quarantined", 1), within_s=40)
        assert await state(here) == "active"


async def test_who_is_shut_out_between_two_looks_waits_as_well(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept may run on, says the first look; a second statement sees what was kept for being shut out since."""
    real, looks = Quarantine.closed, 0

    async def of_before(self: Quarantine, conn: Connection) -> list[str]:
        nonlocal looks
        looks += 1
        return [] if looks % 2 else await real(self, conn)

    monkeypatch.setattr(Quarantine, "closed", of_before)
    async with world(servers) as here, listening(here.here, events.partners()):
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        await here.send(course(1))
        await until(lambda: counted(here, "parked", "suspended", 1), within_s=40)
        so_far = looks
        await until(lambda: asyncio.sleep(0, looks > so_far + 4), within_s=40)
        assert await outcomes(here) == [("parked", "suspended")]


async def test_a_key_too_long_to_be_kept_is_refused_also_while_its_partner_waits(servers: Servers) -> None:
    """Kept, it would fail for ever, and with it everything that came after it, of whomever."""
    async with world(servers) as here, listening(here.here, events.partners()):
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        other = f"{here.partner}-b"
        key = (await catalogue.add(here.settings, other, "En annen", None, ["online"]))["key"]
        async with AIOKafkaProducer(bootstrap_servers=here.settings.kafka_bootstrap) as producer:
            for name in (os.urandom(3000), b"SV-9"):
                await producer.send_and_wait(f"partners.{here.partner}.courses", b"{}", key=name, partition=0)
        await until(lambda: counted(here, "parked", "suspended", 1), within_s=40)
        assert sorted(await outcomes(here)) == [("parked", "suspended"), ("refused", "too_large")]
        here.partner, here.key = other, key
        await here.send(course(1))
        await until(lambda: counted(here, "taken", None, 1), within_s=40)


async def test_a_record_that_is_refused_now_and_then_keeps_nobody_out(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        wrong = course(1, subjects=["magi"])  # of the same code as the others, so that they come as they were sent
        await here.send(*[wrong, course(1), course(1, price_ore=100)] * (LIMIT + 10))
        await until(lambda: counted(here, "taken", None, 2 * (LIMIT + 10)), within_s=60)
        assert (await outcomes(here)).count(("refused", "unknown_subject")) == LIMIT + 10
        assert await state(here) == "active"


async def test_who_has_long_work_of_its_own_in_hand_waits_alone(servers: Servers) -> None:
    """A file of 5,000 rows locks its courses for 20 s; what its partner says of them over Kafka meanwhile waits."""
    async with world(servers) as here, listening(here.here, events.partners()):
        assert (await here.put("SV-1", COURSE)).status_code == 201
        other = f"{here.partner}-b"
        key = (await catalogue.add(here.settings, other, "En annen", None, ["online"]))["key"]
        file = await connect(here.settings, "test")
        async with file.transaction():
            await courses.lock_course(file, here.partner, "SV-1")
            await here.send(course(1, price_ore=100), course(1, price_ore=200), course(2))
            theirs = World(here.here, here.settings, here.asking, here.issuer, other, key)
            await theirs.send(course(1))
            await until(lambda: counted(theirs, "taken", None, 1), within_s=40)
            await until(lambda: counted(here, "parked", "in_hand", 1), within_s=40)
            await until(lambda: counted(here, "taken", None, 2), within_s=40)  # of another key, SV-2
            assert not await counted(here, "taken", None, 3)
        await file.close()
        await until(lambda: counted(here, "taken", None, 4), within_s=40)
        assert [said for said in await here.said() if said[0].startswith("Course")] == [
            *[("CourseCreated", 1)] * 3,
            ("CourseChanged", 2),
            ("CourseChanged", 3),
        ]
        read = await here.asking.get(f"{BASE}/courses?partner={here.partner}&q=SV-1")
        assert [one["price_ore"] for one in read.json()["items"]] == [200]


async def test_who_is_to_be_kept_out_while_a_command_has_it_holds_up_nobody(servers: Servers) -> None:
    """`partners rotate-key` has it locked until Kafka has answered. What it sends after that keeps it out."""
    async with world(servers) as here, listening(here.here, events.partners()):
        other = f"{here.partner}-b"
        key = (await catalogue.add(here.settings, other, "En annen", None, ["online"]))["key"]
        theirs = World(here.here, here.settings, here.asking, here.issuer, other, key)
        command = await connect(here.settings, "test")
        async with command.transaction():
            await partners.lock(command, here.partner)
            await here.send(*[("CoursePublished", WRONG)] * LIMIT)
            await theirs.send(course(1))
            await until(lambda: counted(theirs, "taken", None, 1), within_s=40)
            await until(lambda: counted(here, "refused", "unknown_subject", LIMIT), within_s=40)
        await command.close()
        assert await state(here) == "active"
        await here.send(("CoursePublished", WRONG))
        await until(lambda: counted(here, "refused", "unknown_subject", LIMIT + 1), within_s=40)
        assert await state(here) == "quarantined"


async def test_what_is_refused_costs_the_others_of_its_batch_nothing(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: list[Any] = []
    alone = Effects._one

    async def one(self: Effects, record: Any) -> bool:
        apart.append(record)
        return await alone(self, record)

    monkeypatch.setattr(Effects, "_one", one)
    async with world(servers) as here:
        await here.send(
            course(1),
            ("CoursePublished", WRONG),
            ("CoursePublished", {"code": "SV-9", "title": {}}),
            ("OfferingPublished", {"course_code": "SV-7"}),
            course(2),
        )
        async with listening(here.here, events.partners()):
            await until(lambda: counted(here, "taken", None, 2), within_s=40)
            assert not apart
            assert len(await here.intake()) == 5
        async with here.here.database.reading() as conn:
            heard = await conn.fetchval("SELECT count(*) FROM inbox WHERE consumer = 'catalogue.partners'")
        assert heard == 2, "what is refused was not heard: mended, it may still have its effect"
