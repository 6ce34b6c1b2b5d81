"""Whatever learners, partners, the catalogue and the clock do in whatever order, seats and lines stay whole."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar, get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from kit import audit
from kit.database import Database
from kit.problems import Problem
from services.enrolment import commands
from services.enrolment.acts import Kind
from services.enrolment.app import MIGRATIONS
from services.enrolment.commands import Command, Enrol
from services.enrolment.domain import LIVE, SEATED, Enrolment, Offering
from services.enrolment.shown import shown
from services.enrolment.store import seats
from tests.delivery import Servers
from tests.seats import World, acting, world

T = TypeVar("T")

SHORT = settings(max_examples=40, stateful_step_count=25, derandomize=True)  # the same steps in each run
LONG = settings(max_examples=400, stateful_step_count=50)  # ten minutes
ARENAS = ("mo_i_rana", "mosjoen", "online")
GROUPS = ("ansatt", "pendler")
REFUSALS = {
    *("already-enrolled", "offering-closed", "not-open-yet", "other-group", "too-many-enrolments"),
    *("not-withdrawable", "no-offer", "offer-lapsed", "not-pending"),
    *("unknown-place", "unknown-group"),
}
# A clock that is moved leaves what the relay has not sent behind, and there is no relay here.
AUDIT = MIGRATIONS.parent / "audit.sql"
RULES = [rule for path in (audit.KIT, AUDIT) for rule in audit.rules(path) if rule.number != "V14"]


def by_groups(rules: dict[str, Any]) -> dict[str, Any]:
    return {"priority_groups": [*GROUPS], **rules}


few = st.sampled_from([1, 0, 0, 1, 2])  # so that there is a line
some = st.dictionaries(st.sampled_from(ARENAS), few, min_size=1)
all_of_them = st.fixed_dictionaries(dict.fromkeys(ARENAS, few))
places = st.one_of(all_of_them, all_of_them, some)
# Odd hours, so that no step falls on the very second when an offering closes.
starts = st.sampled_from([9.013, 9.013, 30.013, 1.013])
odd = st.fixed_dictionaries(
    {},
    optional={
        "requires_approval": st.just(True),
        "priority_groups": st.sampled_from([["pendler", "ansatt"], ["ansatt"]]),
        "on_lapse": st.just("back_of_queue"),
        "offer_hours": st.just(4),
        "late_enrolment_until": st.just(0.04),  # days from the start
        "periods": st.sampled_from([[("ansatt", 0, 30)], [(None, 3, 200)], [("ansatt", 0, 30), (None, 3, 200)]]),
    },
)
rules = st.one_of(st.builds(dict), odd).map(by_groups)
asks = st.tuples(
    st.just("enrol"),
    st.sampled_from([0, 0, 0, 1]),
    st.integers(0, 9),
    st.lists(st.sampled_from(ARENAS), min_size=1, max_size=3, unique=True),
    st.fixed_dictionaries(
        {},
        optional={
            "group": st.sampled_from(GROUPS),
            "wait_for_earlier": st.just(False),
            "on_lapse": st.sampled_from(["leave", "back_of_queue"]),
        },
    ),
)
deeds = st.tuples(st.just("act"), st.integers(0, 15), st.sampled_from(get_args(Kind)), st.booleans())
FITS = {
    "accept": ("offered",),
    "decline": ("offered",),
    "approve": ("pending",),
    "deny": ("pending",),
    "withdraw": LIVE,
}


class Standing:
    """One database for all runs, emptied before each, and its clock."""

    def __init__(self, runner: asyncio.Runner, here: World) -> None:
        self.runner = runner
        self.real = here
        self.here = here
        self.hours = 0.0

    def do(self, what: Awaitable[T]) -> T:
        async def doing() -> T:
            return await what

        return self.runner.run(doing())

    async def emptied(self) -> None:
        await self.at(0)
        async with self.here.database.reading() as conn:
            ours = "offerings, places, learners, enrolments, enrolment_changes, offers, timers, line_blocks"
            await conn.execute(f"TRUNCATE {ours}, outbox, outbox_sequence")
        self.here.version = 0

    async def at(self, hours: float) -> None:
        """Move the database's clock to so many hours from now."""
        if hours == self.hours:
            return
        moved = self.real.settings.model_copy(update={"test_clock_offset": timedelta(hours=hours)})
        there = World(Database(moved, pools={"web": 1}), moved) if hours else self.real
        if there is not self.real:
            await there.database.open()
        there.version = self.here.version
        await self.closed()
        self.here, self.hours = there, hours

    async def closed(self) -> None:
        if self.here is not self.real:
            await self.here.database.close()


class Seen:
    """What is in the database between two steps."""

    def __init__(self, now: datetime, offerings: list[Offering], rows: list[Any], places: list[Any]) -> None:
        self.now = now
        self.offerings = {one.id: one for one in offerings}
        self.enrolments = {row["id"]: row for row in rows}
        self.places = {(row["offering_id"], row["arena"]): row for row in places}

    def is_open(self, offering_id: UUID) -> bool:
        return not self.offerings[offering_id].open_to_all(self.now)


class Seats(RuleBasedStateMachine):
    """Each rule is one transaction or several; after each transaction everything is looked at."""

    standing: ClassVar[Standing]

    def __init__(self) -> None:
        super().__init__()
        self.offerings: list[UUID] = []
        self.made: list[UUID] = []
        self.free_at_first: dict[UUID, bool] = {}
        self.was_over: set[UUID] = set()  # nothing is said of its seats then, and all of it once it is open again
        self.standing.do(self.standing.emptied())
        self.before: Seen = self.standing.do(self._seen())

    @property
    def here(self) -> World:
        return self.standing.here

    @initialize(places=places, rules=rules, in_days=starts, asked=st.lists(asks, min_size=5, max_size=10))
    def begin(self, places: dict[str, int], rules: dict[str, Any], in_days: float, asked: list[Any]) -> None:
        """Some have come already."""
        self.scheduled(places, rules, in_days)
        self.ask(asked)

    @precondition(lambda self: len(self.offerings) == 1)
    @rule(places=places, rules=rules, in_days=starts)
    def scheduled(self, places: dict[str, int], rules: dict[str, Any], in_days: float) -> None:
        made = self.standing.do(self._told(None, places, rules, in_days))
        self.offerings.append(made)
        self.free_at_first[made] = any(places.values())
        self.looked_at()

    @rule(n=st.integers(0, 1), places=places, rules=rules, in_days=starts)
    def changed(self, n: int, places: dict[str, int], rules: dict[str, Any], in_days: float) -> None:
        self.standing.do(self._told(self.offerings[n % len(self.offerings)], places, rules, in_days))
        self.looked_at()

    @rule(n=st.integers(0, 1), luck=st.integers(0, 4))
    def cancelled(self, n: int, luck: int) -> None:
        if luck == 0:  # seldom: little happens after it
            version = self.here.version = self.here.version + 1
            self.standing.do(self.here.cancelled(self.offerings[n % len(self.offerings)], version))
            self.looked_at()

    @rule(asked=st.lists(asks, min_size=1, max_size=4))
    def ask(self, asked: list[Any]) -> None:
        self._decided([self._command(one) for one in asked])

    @rule(asked=st.lists(st.one_of(deeds, deeds, asks), min_size=1, max_size=4))
    def together(self, asked: list[Any]) -> None:
        """What several ask in one moment; an act on what nobody has made is left out."""
        self._decided([self._command(one) for one in asked if one[0] == "enrol" or self.made])

    @precondition(lambda self: self.made)
    @rule(deed=deeds)
    def act(self, deed: Any) -> None:
        self._decided([self._command(deed)])

    @rule(hours=st.sampled_from([1.0, 5.0, 20.0, 50.0]), comes=st.booleans())
    def time_passes(self, hours: float, comes: bool) -> None:
        """And the clock comes by, or not yet."""
        self.standing.do(self.standing.at(self.standing.hours + hours))
        self.looked_at()
        if comes:
            self.clock_comes()

    @rule()
    def clock_comes(self) -> None:
        while self.standing.do(self.here.database.run(self.here._next)):
            self.looked_at()
        self.looked_at(clock=True)

    async def _told(self, known: UUID | None, places: dict[str, int], rules: dict[str, Any], in_days: float) -> UUID:
        rules = dict(rules)
        starts_at = datetime.now(self.before.now.tzinfo) + timedelta(days=in_days)
        if "late_enrolment_until" in rules:
            rules["late_enrolment_until"] = starts_at + timedelta(days=rules["late_enrolment_until"])
        rules["periods"] = [
            {
                "group": group,
                "opens_at": self.before.now + timedelta(hours=a),
                "closes_at": self.before.now + timedelta(hours=b),
            }
            for group, a, b in rules.get("periods", [])
        ]
        return await self.here.scheduled(offering_id=known, in_days=in_days, rules=rules, **places)

    def _command(self, drawn: Any) -> Command:
        if drawn[0] == "enrol":
            _, n, who, choices, how = drawn
            arenas = tuple(arena.replace("_", "-") for arena in choices)
            return Enrol(self.offerings[n % len(self.offerings)], ("issuer", f"learner-{who}"), arenas, "Kari", **how)
        _, n, kind, stay = drawn
        fitting = [one for one in self.made if self.before.enrolments[one]["state"] in FITS[kind]]
        chosen = fitting if fitting and n < 12 else self.made
        return acting(kind, chosen[n % len(chosen)], stay=stay, reason="Fullt.")

    def _decided(self, asked: Sequence[Command]) -> None:
        here = self.here
        found = self.standing.do(here.database.run(lambda conn: commands.decide(conn, asked, here.settings)))
        for outcome in found:
            if isinstance(outcome, Problem):
                assert outcome.slug in REFUSALS, outcome.slug
            elif outcome.id not in self.made:
                self.made.append(outcome.id)
        self.looked_at()
        if len(asked) == 1 and isinstance(found[0], Enrolment):
            now = self.standing.do(here.now(found[0]))
            assert shown(found[0]) == shown(now), "who asks is answered what is so"

    async def _seen(self) -> Seen:
        async with self.here.database.reading() as conn:
            ids = [row["id"] for row in await conn.fetch("SELECT id FROM offerings")]
            offerings = [await seats.offering(conn, one) for one in ids]
            return Seen(
                await seats.now(conn),
                [one for one in offerings if one is not None],
                await conn.fetch("SELECT * FROM enrolments"),
                await conn.fetch("SELECT * FROM places"),
            )

    def looked_at(self, clock: bool = False) -> None:
        """Whether everything is whole; `clock`: and everything that was due is done."""
        before, now = self.before, self.standing.do(self._seen())
        self.before = now
        self.was_over |= {one.id for one in now.offerings.values() if one.cancelled or now.now >= one.ends_at}
        seats_are_counted(now)
        no_seat_is_idle(now)
        nobody_is_passed_over(before, now)
        self.standing.do(self._told_of(now))
        self.standing.do(self._audited(clock))

    async def _told_of(self, now: Seen) -> None:
        """Full and open again are said by turns, and the last that was said is so."""
        said: dict[UUID, bool] = dict(self.free_at_first)
        for kind, data in await self.here.said():
            if kind in ("OfferingFilled", "OfferingReopened"):
                offering_id, is_free = UUID(data["offering_id"]), kind == "OfferingReopened"
                assert said.get(offering_id) is not is_free or offering_id in self.was_over, f"{kind} is said twice"
                said[offering_id] = is_free
        for offering_id, is_free in said.items():
            one = now.offerings[offering_id]
            if not one.cancelled and now.now < one.ends_at:
                free = [row for row in now.places.values() if row["offering_id"] == offering_id]
                assert any(row["taken"] < row["capacity"] for row in free) is is_free, "the last said is not so"

    async def _audited(self, clock: bool) -> None:
        async with self.here.database.reading() as conn:
            for one in RULES:
                if one.number == "V9" and "a minute after" in one.words and not clock:
                    continue  # the clock has not come by
                row = await conn.fetchrow(one.statement)
                assert row is not None
                assert not row["wrong"], f"{one.words}: {row['example']}"


def seats_are_counted(now: Seen) -> None:
    """taken = who sits there <= capacity; queued = who stands in line there; one live enrolment each."""
    seated: defaultdict[tuple[UUID, str], int] = defaultdict(int)
    waiting: defaultdict[tuple[UUID, str], int] = defaultdict(int)
    live: defaultdict[tuple[UUID, UUID], int] = defaultdict(int)
    for row in now.enrolments.values():
        seated[row["offering_id"], row["place"]] += row["state"] in SEATED
        live[row["offering_id"], row["learner_id"]] += row["state"] in LIVE
        for arena in row["waiting_for"]:
            waiting[row["offering_id"], arena] += 1
    for key, place in now.places.items():
        assert place["taken"] == seated[key] <= place["capacity"]
        assert place["queued"] == waiting[key]
    assert all(count <= 1 for count in live.values())


def no_seat_is_idle(now: Seen) -> None:
    """V7: while seats are given out in turn, none is free that somebody stands in line for."""
    for (offering_id, _), place in now.places.items():
        offering = now.offerings[offering_id]
        closes = offering.rules.late_enrolment_until or offering.starts_at
        if not offering.cancelled and now.is_open(offering_id) and now.now < closes:
            assert place["taken"] == place["capacity"] or not place["queued"]


def nobody_is_passed_over(before: Seen, now: Seen) -> None:
    """V8: who got a seat in this step is no further back than who waited for it before, and still does."""
    for got in now.enrolments.values():
        was, arena = before.enrolments.get(got["id"]), got["place"]
        sat = was is not None and was["state"] in SEATED and was["place"] == arena
        if got["state"] not in SEATED or sat or not now.is_open(got["offering_id"]):
            continue
        for other in now.enrolments.values():
            stood = before.enrolments.get(other["id"])
            if (
                stood is not None
                and other["offering_id"] == got["offering_id"]
                and arena in other["waiting_for"]
                and arena in stood["waiting_for"]
                and stood["queue_number"] == other["queue_number"]
            ):
                front, back = ((row["rank"], row["queue_number"]) for row in (got, other))
                assert front < back, f"{other['id']} stood in front of {got['id']} for a seat at {arena}"


@pytest.mark.parametrize(
    "how_long",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]),
    ],
)
def test_seats_and_lines_stay_whole_whatever_is_done(servers: Servers, how_long: settings) -> None:
    how = settings(
        how_long,
        deadline=None,  # a database takes the time that it takes
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    with asyncio.Runner() as runner:
        opened = world(servers, enrolments_per_hour=1_000)
        here = runner.run(opened.__aenter__())
        Seats.standing = standing = Standing(runner, here)
        try:
            run_state_machine_as_test(Seats, settings=how)
        finally:
            runner.run(standing.closed())
            runner.run(opened.__aexit__(None, None, None))
