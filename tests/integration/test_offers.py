"""A freed seat is offered to the first in line, to nobody else, until an hour that is fair; on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from kit import sealing
from kit.database import Busy, Connection
from kit.problems import Problem
from services.enrolment import commands, offerings
from services.enrolment.commands import Enrol
from services.enrolment.domain import Enrolment
from services.enrolment.store import times
from services.enrolment.work import digest
from tests.delivery import Servers, until
from tests.seats import PRIVATE, World, world

pytestmark = pytest.mark.anyio


async def full(here: World, *line: str, rules: dict[str, Any] | None = None, seats: int = 1, **how: Any) -> Any:
    """An offering whose seats are taken, and those who stand in line for them."""
    offering_id = await here.scheduled(online=seats, rules=rules, **how)
    seated = [await here.enrol(offering_id, f"seated-{number}") for number in range(seats)]
    return offering_id, seated, [await here.enrol(offering_id, who) for who in line]


async def test_an_offer_is_answered_before_its_hour_and_is_the_learners_own(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, [kari], [ola, per] = await full(here, "ola", "per")
        await here.act("withdraw", kari)
        offered = await here.now(ola)
        assert offered.expires_at is not None
        assert await here.stands(ola, per) == [("offered", "online"), ("queued", None)]
        with pytest.raises(Problem) as refused:
            await here.act("accept", ola, "per")
        assert refused.value.status == 404
        with pytest.raises(Problem) as refused:
            await here.act("accept", per)
        assert (refused.value.slug, refused.value.extensions["state"]) == ("no-offer", "queued")
        assert (await here.act("accept", ola, "ola")).state == "associated"
        with pytest.raises(Problem) as refused:
            await here.act("accept", ola, "ola")
        assert refused.value.slug == "no-offer"
        assert (await here.places(offering_id))["online"].taken == 1
        assert (await here.kinds())[-3:] == ["LearnerWithdrew", "SeatOffered", "LearnerEnrolled"]
        assert (await here.said())[-1][1]["from_queue"] is True


async def test_the_links_of_an_offer_travel_sealed_and_are_kept_as_digests(servers: Servers) -> None:
    async with world(servers) as here:
        _, [kari], [ola] = await full(here, "ola")
        await here.act("withdraw", kari)
        [data] = [data for kind, data in await here.said() if kind == "SeatOffered"]
        links = sealing.unseal(PRIVATE, data["sealed"])
        assert set(links) == {"accept", "decline"}
        async with here.database.reading() as conn:
            accept, decline = [await times.link(conn, digest(links[act])) for act in ("accept", "decline")]
            kept = str(await conn.fetch("SELECT * FROM offers")) + str(await conn.fetch("SELECT payload FROM outbox"))
        assert accept is not None
        assert decline is not None
        assert (accept.enrolment_id, accept.accepts, decline.accepts) == (ola.id, True, False)
        assert not any(token in kept for token in links.values())


async def test_declining_gives_the_seat_to_the_next(servers: Servers) -> None:
    async with world(servers) as here:
        _, [kari], [ola, per, liv] = await full(here, "ola", "per", "liv")
        await here.act("withdraw", kari)
        assert (await here.act("decline", ola)).state == "cancelled"
        assert (await here.act("decline", per, stay=True)).state == "queued"
        assert await here.stands(ola, per, liv) == [("cancelled", None), ("queued", None), ("offered", "online")]
        assert (await here.now(per)).place_in_line == 1, "who says no and stays stands behind who came later"
        said = [(kind, data.get("in_line")) for kind, data in await here.said()][-4:]
        assert said == [
            ("SeatOfferDeclined", False),
            ("SeatOffered", None),
            ("SeatOfferDeclined", True),
            ("SeatOffered", None),
        ]


@pytest.mark.parametrize(
    ("rule", "choice", "state"),
    [("leave", None, "cancelled"), ("back_of_queue", None, "queued"), ("leave", "back_of_queue", "queued")],
)
async def test_an_offer_nobody_answers_lapses_as_the_learner_or_the_offering_says(
    servers: Servers, rule: str, choice: str | None, state: str
) -> None:
    async with world(servers) as here:
        offering_id, [kari], _ = await full(here, rules={"on_lapse": rule})
        ola = await here.enrol(offering_id, "ola", on_lapse=choice)
        per = await here.enrol(offering_id, "per")
        await here.act("withdraw", kari)
        assert await here.tick() == 0, "nothing is due yet"
        async with here.later(hours=72) as then:
            with pytest.raises(Problem) as refused:
                await then.act("accept", ola)
            assert refused.value.slug == "offer-lapsed", "the hour counts, not whether the clock has come by"
            assert await then.tick() >= 1
            assert await then.stands(ola, per) == [(state, None), ("offered", "online")]
            assert await then.tick() == 0
        lapsed = [data for kind, data in await here.said() if kind == "SeatOfferLapsed"]
        assert [(one["in_line"], one["offers"]) for one in lapsed] == [(state == "queued", True)]


async def test_what_lapsed_while_everything_was_down_lapses_once_whoever_comes_first(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, seated, line = await full(here, *(f"in-line-{n}" for n in range(6)), seats=3)
        for one in seated:
            await here.act("withdraw", one)
        async with here.later(hours=72) as then:
            await asyncio.gather(*(then.tick() for _ in range(4)))
            states = await then.states(offering_id)
            assert states == {"cancelled": 6, "offered": 3}
            assert await then.stands(*line[3:]) == [("offered", "online")] * 3
        assert (await here.kinds()).count("SeatOfferLapsed") == 3


async def test_who_has_let_an_offer_lapse_is_offered_no_better_seat_before_the_clock_comes_by(servers: Servers) -> None:
    """The clock may have stood still for hours: a seat that is freed meanwhile is for who still stands in line."""
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, mosjoen=1)
        seat = await here.enrol(offering_id, "per", "mosjoen")
        left = await here.enrol(offering_id, "eli", "online")
        kari = await here.enrol(offering_id, "kari", "mosjoen", "online")
        ola = await here.enrol(offering_id, "ola", "mosjoen")
        await here.withdraw(left, "eli")
        assert await here.stands(kari, ola) == [("offered", "online"), ("queued", None)]
        async with here.later(hours=60) as there:
            await there.withdraw(seat, "per")
            assert await there.stands(kari, ola) == [("cancelled", None), ("offered", "mosjoen")]
            assert (await there.places(offering_id))["online"].free == 1
            assert (await there.kinds()).count("SeatOfferLapsed") == 1
            assert await there.tick() > 0
            assert (await there.kinds()).count("SeatOfferLapsed") == 1


async def test_a_clock_that_runs_fast_in_one_process_does_not_take_an_offer_away(servers: Servers) -> None:
    """The hour is the database's: what a process believes of the time has no say."""
    async with world(servers) as here:
        _, [kari], [ola] = await full(here, "ola")
        await here.act("withdraw", kari)
        assert await here.tick() == 0
        assert (await here.now(ola)).state == "offered"
        assert (await here.act("accept", ola)).state == "associated"


async def test_the_last_one_to_answer_and_the_clock_do_not_both_have_the_seat(servers: Servers) -> None:
    async with world(servers) as here:
        for _ in range(5):
            offering_id, [kari], [ola, per] = await full(here, "ola", "per")
            await here.act("withdraw", kari)
            async with here.database.reading() as conn:
                await conn.execute("UPDATE offers SET expires_at = app_now() WHERE enrolment_id = $1", ola.id)
                await times.add_timers(conn, [(offering_id, datetime.now(UTC) - timedelta(minutes=1))])
            outcomes = await asyncio.gather(here.act("accept", ola), here.tick(), return_exceptions=True)
            assert isinstance(outcomes[0], Problem | Busy | asyncpg.LockNotAvailableError)
            assert await here.stands(ola, per) == [("cancelled", None), ("offered", "online")]


async def test_a_later_choice_stands_in_line_for_the_earlier_and_moves_there(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(mosjoen=1, online=1)
        kari = await here.enrol(offering_id, "kari", "mosjoen")
        ola = await here.enrol(offering_id, "ola", "mosjoen", "online")
        per = await here.enrol(offering_id, "per", "online")
        assert await here.stands(ola, per) == [("associated", "online"), ("queued", None)]
        assert (await here.now(ola)).waiting_for == ("mosjoen",)
        assert (await here.places(offering_id))["mosjoen"].queued == 1
        await here.act("withdraw", kari)
        assert await here.stands(ola, per) == [("associated", "mosjoen"), ("offered", "online")]
        assert (await here.kinds())[-3:] == ["LearnerWithdrew", "LearnerMoved", "SeatOffered"]
        assert (await here.places(offering_id))["mosjoen"].queued == 0


async def test_who_does_not_want_to_move_is_left_where_they_sit(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(mosjoen=1, online=1)
        kari = await here.enrol(offering_id, "kari", "mosjoen")
        ola = await here.enrol(offering_id, "ola", "mosjoen", "online", wait_for_earlier=False)
        await here.act("withdraw", kari)
        assert await here.stands(ola) == [("associated", "online")]
        assert (await here.places(offering_id))["mosjoen"].free == 1


async def test_an_offer_at_a_later_choice_gives_way_to_one_at_an_earlier(servers: Servers) -> None:
    """Who is in front is not passed over because an offer came a moment too early."""
    async with world(servers) as here:
        offering_id = await here.scheduled(mosjoen=1, online=1)
        kari, liv = [await here.enrol(offering_id, w, p) for w, p in (("kari", "mosjoen"), ("liv", "online"))]
        ola = await here.enrol(offering_id, "ola", "mosjoen", "online")
        per = await here.enrol(offering_id, "per", "mosjoen", "online")
        await here.act("withdraw", liv)
        assert await here.stands(ola, per) == [("offered", "online"), ("queued", None)]
        await here.act("withdraw", kari)
        assert await here.stands(ola, per) == [("offered", "mosjoen"), ("offered", "online")]
        async with here.database.reading() as conn:
            outcomes = [row["outcome"] for row in await conn.fetch("SELECT outcome FROM offers ORDER BY made_at, id")]
        assert outcomes == ["replaced", None, None]


async def test_groups_come_first_and_then_the_hour_of_asking(servers: Servers) -> None:
    async with world(servers) as here:
        rules = {"priority_groups": ["ansatt", "pendler"]}
        offering_id, [kari], _ = await full(here, rules=rules)
        others = [await here.enrol(offering_id, "ola"), await here.enrol(offering_id, "per", group="pendler")]
        staff = await here.enrol(offering_id, "liv", group="ansatt")
        assert [one.place_in_line for one in (*others, staff)] == [1, 1, 1], "each was told where it stood then"
        assert [(await here.now(one)).place_in_line for one in (*others, staff)] == [3, 2, 1]
        await here.act("withdraw", kari)
        assert await here.stands(*others, staff) == [("queued", None), ("queued", None), ("offered", "online")]
        with pytest.raises(Problem) as refused:
            await here.enrol(offering_id, "anne", group="gruvearbeider")
        assert refused.value.extensions["errors"] == [{"field": "group", "detail": "must be one of: ansatt, pendler"}]


async def test_changed_groups_put_the_line_in_their_order(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, [kari], _ = await full(here, rules={"priority_groups": ["ansatt", "pendler"]})
        ansatt = await here.enrol(offering_id, "ola", group="ansatt")
        pendler = await here.enrol(offering_id, "per", group="pendler")
        await here.scheduled(offering_id=offering_id, online=1, rules={"priority_groups": ["pendler"]})
        await here.act("withdraw", kari)
        assert await here.stands(ansatt, pendler) == [("queued", None), ("offered", "online")]


async def test_under_twelve_hours_before_the_start_a_seat_is_whose_who_asks_first(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id, [kari], [ola, per] = await full(here, "ola", "per", in_days=0.45)
        await here.act("withdraw", kari)
        assert await here.stands(ola, per) == [("queued", None), ("queued", None)]
        assert (await here.places(offering_id))["online"].free == 1
        taken = await here.enrol(offering_id, "per")
        assert (taken.id, taken.state, taken.place) == (per.id, "associated", "online")
        with pytest.raises(Problem) as refused:
            await here.enrol(offering_id, "ola")
        assert refused.value.slug == "already-enrolled"


async def test_nobody_has_more_than_the_house_allows(servers: Servers) -> None:
    async with world(servers, most_live_enrolments=2) as here:
        several = [await here.scheduled(online=5) for _ in range(3)]
        first = await here.enrol(several[0], "kari")
        await here.enrol(several[1], "kari")
        with pytest.raises(Problem) as refused:
            await here.enrol(several[2], "kari")
        assert (refused.value.slug, refused.value.extensions["most"]) == ("too-many-enrolments", 2)
        await here.act("withdraw", first)
        assert (await here.enrol(several[2], "kari")).state == "associated"


@pytest.mark.parametrize("has", [1, 0])
async def test_nobody_has_more_than_the_house_allows_by_asking_two_processes_at_once(
    servers: Servers, has: int
) -> None:
    """One process is asked for all that is left to this learner, the other for one more."""
    async with world(servers, most_live_enrolments=2) as here:
        several = [await here.scheduled(online=5) for _ in range(4)]
        known = await here.enrol(several[0], "kari")
        if not has:
            await here.act("withdraw", known)
        decided, go = asyncio.Event(), asyncio.Event()

        async def decide(conn: Connection) -> list[commands.Outcome]:
            left = several[1 : 3 - has]
            made = await commands.decide(
                conn, [Enrol(one, ("issuer", "kari"), ("online",), "Kari") for one in left], here.settings
            )
            decided.set()
            await go.wait()
            return made

        async def waits_or_is_done() -> bool:
            async with here.database.reading() as conn:
                waiting = await conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(waiting) or second.done()

        first = asyncio.create_task(here.database.run(decide))
        await decided.wait()
        second = asyncio.create_task(here.enrol(several[3], "kari"))
        await until(waits_or_is_done)
        go.set()
        assert [one.state for one in await first if isinstance(one, Enrolment)] == ["associated"] * (2 - has)
        with pytest.raises(Problem) as refused:
            await second
        assert refused.value.slug == "too-many-enrolments"


async def test_approval_comes_before_a_seat_and_gives_the_place_of_the_hour_of_asking(servers: Servers) -> None:
    async with world(servers) as here:
        offering_id = await here.scheduled(online=1, rules={"requires_approval": True})
        kari, ola, per, liv = [await here.enrol(offering_id, who) for who in ("kari", "ola", "per", "liv")]
        assert (kari.state, (await here.places(offering_id))["online"].taken) == ("pending", 0)
        assert (await here.act("approve", kari)).state == "associated"
        later = await here.act("approve", per)
        assert (later.state, later.place_in_line) == ("queued", 1)
        earlier = await here.act("approve", ola)
        assert (earlier.state, earlier.place_in_line) == ("queued", 1), "who asked first stands in front"
        denied = await here.act("deny", liv, reason="Kurset er for ansatte.")
        assert (denied.state, denied.denied_because) == ("denied", "Kurset er for ansatte.")
        with pytest.raises(Problem) as refused:
            await here.act("approve", liv)
        assert refused.value.slug == "not-pending"
        await here.act("withdraw", kari)
        assert await here.stands(ola, per) == [("offered", "online"), ("queued", None)]
        kinds = await here.kinds()
        assert (kinds.count("EnrolmentPending"), kinds.count("EnrolmentDenied"), kinds.count("LearnerQueued")) == (
            4,
            1,
            2,
        )


async def test_periods_open_for_a_group_and_then_for_all(servers: Servers) -> None:
    now = datetime.now(UTC)

    def period(group: str | None, opens_h: float, closes_h: float) -> dict[str, Any]:
        return {
            "group": group,
            "opens_at": now + timedelta(hours=opens_h),
            "closes_at": now + timedelta(hours=closes_h),
        }

    async with world(servers) as here:
        rules = {"periods": [period("ansatt", -1, 2), period(None, 1, 2)]}
        offering_id = await here.scheduled(online=5, rules=rules)
        assert (await here.enrol(offering_id, "kari", group="ansatt")).state == "associated"
        with pytest.raises(Problem) as refused:
            await here.enrol(offering_id, "ola")
        assert (refused.value.slug, refused.value.extensions["groups"]) == ("not-open-yet", ["ansatt"])
        async with here.later(hours=1.5) as then:
            assert (await then.enrol(offering_id, "ola")).state == "associated"
        async with here.later(hours=3) as then:
            with pytest.raises(Problem) as refused:
                await then.enrol(offering_id, "per")
            assert refused.value.extensions["reason"] == "over"
        only = await here.scheduled(online=5, rules={"periods": [period("ansatt", -1, 2)]})
        with pytest.raises(Problem) as refused:
            await here.enrol(only, "ola")
        assert refused.value.slug == "other-group"


async def test_a_cancelled_offering_is_emptied_in_batches(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offerings, "AT_ONCE", 3)
    async with world(servers) as here:
        offering_id, _, _ = await full(here, *(f"in-line-{n}" for n in range(4)), seats=4)
        await here.cancelled(offering_id)
        assert (await here.states(offering_id))["cancelled"] == 3, "the first few at once"
        with pytest.raises(Problem) as refused:
            await here.enrol(offering_id, "too-late")
        assert refused.value.slug == "offering-closed"
        await here.tick()
        assert await here.states(offering_id) == {"cancelled": 8}
        assert (await here.places(offering_id))["online"].taken == 0
        told = [data["reason"] for kind, data in await here.said() if kind == "LearnerWithdrew"]
        assert told == ["offering_cancelled"] * 8


async def test_enough_or_too_few_is_said_once_at_its_hour(servers: Servers) -> None:
    async with world(servers) as here:
        decide_at = datetime.now(UTC) + timedelta(days=20)
        rules = {"minimum": 2, "decide_at": decide_at, "on_too_few": "cancel"}
        enough = await here.scheduled(online=5, in_days=30, rules=rules)
        few = await here.scheduled(online=5, in_days=30, rules=rules)
        for who in ("kari", "ola"):
            await here.enrol(enough, who)
        await here.enrol(few, "per")
        for days in (13.5, 13.6, 20.1, 20.2):
            async with here.later(days=days) as then:
                await then.tick()
        said = [(kind, data["offering_id"], data["enrolled"]) for kind, data in await here.said() if "Minimum" in kind]
        assert said[0] == ("MinimumAtRisk", str(few), 1)
        assert sorted(said[1:]) == [("MinimumMissed", str(few), 1), ("MinimumReached", str(enough), 2)]


async def test_what_is_heard_of_after_its_hour_is_judged_at_once_and_once(servers: Servers) -> None:
    """As when its record lay unread in the catalogue: the hour does not come again."""
    async with world(servers) as here:
        rules = {"minimum": 1, "decide_at": datetime.now(UTC) - timedelta(days=1)}
        new = await here.scheduled(online=5, in_days=30, rules=rules)
        known = await here.scheduled(online=5, in_days=30)
        await here.enrol(known, "kari")
        await here.scheduled(offering_id=known, online=5, in_days=30, rules=rules)
        await here.tick()
        async with here.later(days=25) as then:
            await then.tick()
        said = [(kind, data["offering_id"]) for kind, data in await here.said() if "Minimum" in kind]
        assert sorted(said) == [("MinimumMissed", str(new)), ("MinimumReached", str(known))]


async def test_another_minimum_is_judged_anew(servers: Servers) -> None:
    async with world(servers) as here:
        decide_at = datetime.now(UTC) + timedelta(days=1)
        rules = {"minimum": 2, "decide_at": decide_at}
        offering_id = await here.scheduled(online=5, in_days=30, rules=rules)
        await here.enrol(offering_id, "kari")
        async with here.later(days=2) as then:
            await then.tick()
            for minimum in (1, 2):
                await then.scheduled(offering_id=offering_id, online=5, in_days=30, rules=rules | {"minimum": minimum})
                await then.tick()
                await then.tick()
        said = [(kind, data["minimum"]) for kind, data in await here.said() if "Minimum" in kind]
        assert said == [("MinimumMissed", 2), ("MinimumReached", 1), ("MinimumMissed", 2)]


async def test_the_end_finishes_who_sat_and_lets_go_who_waited(servers: Servers) -> None:
    async with world(servers) as here:
        _, [kari], [ola] = await full(here, "ola")
        async with here.later(days=10) as then:
            await then.tick()
            assert await then.stands(kari, ola) == [("finished", "online"), ("cancelled", None)]
            assert (await then.kinds())[-2:] == ["EnrolmentFinished", "LearnerWithdrew"]
            with pytest.raises(Problem) as refused:
                await then.act("withdraw", kari)
            assert (refused.value.slug, refused.value.extensions["state"]) == ("not-withdrawable", "finished")


async def test_late_enrolment_gives_out_seats_after_the_start(servers: Servers) -> None:
    async with world(servers) as here:
        until = datetime.now(UTC) + timedelta(days=10)
        offering_id = await here.scheduled(online=2, in_days=9, lasts_days=30, rules={"late_enrolment_until": until})
        async with here.later(days=9.5) as then:
            assert (await then.enrol(offering_id, "kari")).state == "associated"
        async with here.later(days=10.1) as then:
            with pytest.raises(Problem) as refused:
                await then.enrol(offering_id, "ola")
            assert refused.value.extensions["reason"] == "started"


async def test_five_hundred_seats_more_are_offered_down_a_line_of_thousands(servers: Servers) -> None:
    async with world(servers, most_live_enrolments=10) as here:
        offering_id = await here.scheduled(online=0)
        line: list[Enrolment] = []
        for start in range(0, 2_000, 500):
            made = await here.together(offering_id, range(start, start + 500))
            line += made
        assert [one.place_in_line for one in line[:3]] == [1, 2, 3]
        await here.scheduled(offering_id=offering_id, online=500)
        assert (await here.states(offering_id)) == {"offered": 500, "queued": 1_500}
        assert (await here.now(line[499])).state == "offered"
        assert (await here.now(line[500])).place_in_line == 1


@pytest.mark.parametrize(("kind", "how"), [("accept", {}), ("decline", {"stay": True})])
async def test_an_offer_of_a_cancelled_offering_cannot_be_answered(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, kind: Any, how: dict[str, Any]
) -> None:
    """Its learners are released some at a time: who has not been yet must not be told that there is a seat."""
    monkeypatch.setattr(offerings, "AT_ONCE", 1)
    async with world(servers) as here:
        offering_id, [kari, _], [ola] = await full(here, "ola", seats=2)
        await here.act("withdraw", kari)
        await here.cancelled(offering_id)
        assert (await here.now(ola)).state == "offered"
        with pytest.raises(Problem) as refused:
            await here.act(kind, ola, **how)
        assert (refused.value.slug, refused.value.extensions["reason"]) == ("offering-closed", "cancelled")
        await here.tick()
        assert await here.stands(ola) == [("cancelled", None)]


async def test_who_waits_for_approval_of_a_cancelled_offering_is_not_said_to_be_late(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offerings, "AT_ONCE", 1)
    async with world(servers) as here:
        offering_id = await here.scheduled(online=2, rules={"requires_approval": True})
        _, ola = [await here.enrol(offering_id, who) for who in ("kari", "ola")]
        await here.cancelled(offering_id)
        with pytest.raises(Problem) as refused:
            await here.act("approve", ola)
        assert refused.value.extensions["reason"] == "cancelled"


async def test_an_offering_that_is_held_after_all_tells_that_it_has_seats(servers: Servers) -> None:
    """While it was cancelled nothing was said of its seats: the last that others know is that it is full."""
    async with world(servers) as here:
        offering_id, _, _ = await full(here)
        assert (await here.kinds())[-1] == "OfferingFilled"
        await here.cancelled(offering_id)
        here.version = 99
        await here.scheduled(offering_id=offering_id, online=1)
        assert (await here.kinds())[-1] == "OfferingReopened"
