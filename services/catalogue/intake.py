"""What became of what a partner sent: one by one at `GET /partners/{partner}/intake`, as a whole at `…/status`."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, get_args
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from contracts.fields import Instant
from contracts.topics import partner_courses
from kit import lag, openapi, problems
from kit.database import Connection
from kit.http import Db, ThisService
from kit.partners import Partner
from kit.problems import Problem
from kit.running import Running
from services.catalogue import retracting
from services.catalogue.answers import Seats
from services.catalogue.api import BASE, MOST_LISTED, Limit
from services.catalogue.store import Row, views
from services.catalogue.store import intake as store

router = APIRouter(prefix=BASE, tags=["catalogue"])

GROUP = "catalogue.partners"
LOOKS_A_MINUTE = 20  # at the broker, for one partner in one process: each look opens connections
MOST_RUNS = 500
KEPT_DAYS = 84  # what came; as long as the kit keeps what was refused
FORGET_ROWS = 2_000
FORGET_EVERY_S = 600.0
UNDECIDED = "decision_wanted"  # the reason of a retraction that waits for its partner
FIELD = re.compile(r"([^\s:]{1,80}): ")
CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
CURSOR = re.compile(r"([0-9]{1,16})-([01])-([0-9]{1,18})")  # microseconds, table, number
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Outcome = Literal["taken", "refused", "parked"]
WayIn = Literal["kafka", "http", "csv"]


class IntakeItem(BaseModel):
    """One thing that a partner sent. Unless it was taken, `reason` is a code, `field` the place, `detail` the rule.

    What was taken has none, but for a retraction that waits for the partner's decision: `decision_wanted`.
    `parked` is kept and may still be taken: behind another record, or while the partner may not publish.
    """

    at: datetime
    outcome: Outcome
    way: WayIn
    what: str | None
    code: str | None
    event_id: str | None
    reason: str | None
    field: str | None
    detail: str | None


class Intake(BaseModel):
    items: list[IntakeItem]


class Count(BaseModel):
    """`received` is the sum of the others."""

    received: int
    taken: int
    refused: int
    parked: int


class Way(BaseModel):
    """What is refused over HTTP and in files is told in the answer, and not counted here."""

    last_24_hours: Count
    last_7_days: Count


class RunStatus(BaseModel):
    """`people` have a seat, wait for approval or stand in line, as far as is known by now."""

    offering_id: UUID
    course_id: UUID
    code: str
    key: str
    starts_at: datetime
    seats: Seats | None
    people: int


class Retraction(BaseModel):
    """What the partner has retracted though `people` are enrolled, as far as is known; of a whole course without `key`.

    It waits for a decision: `POST …/cancel` (of a course `…/withdraw`) with `confirmed`, or `POST …/keep`.
    """

    course_id: UUID
    code: str
    offering_id: UUID | None
    key: str | None
    reason: str
    asked_at: datetime
    people: int


class OnHold(BaseModel):
    """A run that had too few on its day, and waits for its partner: `enrolled` of `minimum` then, `people` by now.

    Until `decide_before`, when it begins: `POST …/confirm`, or `POST …/cancel` with `confirmed`.
    """

    course_id: UUID
    code: str
    offering_id: UUID
    key: str
    enrolled: int
    minimum: int
    people: int
    decide_before: datetime


class Status(BaseModel):
    """`waiting` records are kept until they may run; `lag` are not yet read, none when the broker did not say."""

    partner: str
    name: str
    state: Literal["active", "quarantined", "suspended"]
    because: str | None
    since: datetime | None
    waiting: int
    lag: int | None
    ways: dict[WayIn, Way]
    last: IntakeItem | None
    offerings: list[RunStatus]
    retractions: list[Retraction]
    on_hold: list[OnHold]


def item(row: Row) -> IntakeItem:
    """One row of the store, as its partner reads it."""
    key = (row["key"] or b"").decode("ascii", "replace")
    what = re.sub(r"^no\.kursnett\.partner\.|\.v\d+$", "", row["what"] or "") or None
    reason, detail = row["reason"], row["detail"]
    if reason == UNDECIDED:
        detail = "confirmed: people are enrolled: retract it again with confirmed true, or publish it again to keep it"
    found = FIELD.match(detail or "")
    return IntakeItem(
        at=row["at"],
        outcome=row["outcome"],
        way=row["way"],
        what=what,
        code=row["code"] or (key if CODE.fullmatch(key) else None),
        event_id=row["event_id"].partition("/")[2] if row["source"] == 0 and row["event_id"] else row["event_id"],
        reason=reason,
        field=None if reason is None else found[1] if found else "event",
        detail=detail,
    )


Begin = tuple[datetime, int, int]  # when, which table, which number


def begin(cursor: str | None, before: datetime | None = None) -> Begin | None:
    """Where a page begins. Raises Problem (422) for a cursor that is none of ours."""
    if cursor is None:
        return None if before is None else (before, 0, 0)
    found = CURSOR.fullmatch(cursor)
    if found is None:
        raise problems.invalid([{"loc": ("query", "cursor"), "msg": "must be one that a Link of this address gave"}])
    micros, source, number = (int(part) for part in found.groups())
    return EPOCH + timedelta(microseconds=micros), source, number


async def page(
    conn: Connection, partner: str, outcome: Outcome | None, begin: Begin | None, limit: int
) -> tuple[list[IntakeItem], str | None]:
    """One page of what came from a partner, newest first, and the cursor of the next, none when it is the last."""
    rows = await store.intake(conn, partner, partner_courses(partner).name, outcome, begin, limit + 1)
    shown = rows[:limit]
    further = None
    if len(rows) > limit:
        last = shown[-1]
        further = f"{(last['at'] - EPOCH) // timedelta(microseconds=1)}-{last['source']}-{last['id']}"
    return [item(row) for row in shown], further


@dataclass(frozen=True, slots=True)
class Received:
    """A partner, and how much of what it sent was taken and refused, by the way it came, and how many records wait.

    False where there is no need to look: `was_refused`, whether anything ever was; `may_decide`, whether a retraction
    or a run with too few may wait for its decision.
    """

    partner: Row
    ways: dict[WayIn, Way]
    waiting: int
    was_refused: bool
    may_decide: bool


async def received(conn: Connection, asked: Sequence[str]) -> Sequence[Received | None]:
    """What came from each of these partners, none where there is no such."""
    rows = await store.received(conn, {partner: partner_courses(partner).name for partner in asked})
    found = {row["slug"]: _received(row) for row in rows}
    return [found.get(partner) for partner in asked]


def _received(row: Row) -> Received:
    taken = json.loads(row["taken"])
    ways = {way: _way(taken.get(way), row if way == "kafka" else None) for way in get_args(WayIn)}
    return Received(row, ways, row["waiting"], row["was_refused"], row["may_decide"])


@router.get("/partners/{partner}/intake", response_model=Intake, responses=openapi.problems(403))
async def read_intake(
    partner: Partner,
    database: Db,
    response: Response,
    outcome: Outcome | None = None,
    limit: Limit = MOST_LISTED,
    before: Instant | None = None,
    cursor: Annotated[str | None, Query(max_length=50, description="from `Link: rel=next`")] = None,
) -> Intake:
    """What came from this partner and what became of it, newest first."""
    async with database.reading() as conn:
        items, further = await page(conn, partner, outcome, begin(cursor, before), limit)
    if further:
        asked = {"outcome": outcome, "limit": limit, "cursor": further}
        query = urlencode({name: value for name, value in asked.items() if value})
        response.headers["link"] = f'<{BASE}/partners/{partner}/intake?{query}>; rel="next"'
    return Intake(items=items)


@router.get("/partners/{partner}/status", response_model=Status, responses=openapi.problems(403, 404))
async def read_status(partner: Partner, database: Db, running: ThisService) -> Status:
    """How it goes: what was taken and refused, what waits, and the seats of the runs that are not over."""
    topic = partner_courses(partner).name
    came = await running.together(received).submit(partner)
    if came is None:
        raise Problem("not-found", "Not found", 404, f"{partner} is not a partner.")
    async with database.reading() as conn:
        newest = await store.intake(conn, partner, topic, None, None, 1)
        runs = await store.runs(conn, partner, MOST_RUNS)
        retracted = await retracting.waiting(conn, partner) if came.may_decide else []
        on_hold = await views.on_hold(conn, partner, retracting.MOST_WAITING) if came.may_decide else []
    may_look = not running.pace.wait_s(f"lag of {partner}", LOOKS_A_MINUTE)
    known = came.partner
    return Status(
        partner=partner,
        name=known["name"],
        state=known["state"],
        because=known["state_because"] or None,
        since=known["state_since"],
        waiting=came.waiting,
        lag=await lag.on_topic(running.settings.kafka_bootstrap, GROUP, topic) if may_look else None,
        ways=came.ways,
        last=item(newest[0]) if newest else None,
        offerings=[RunStatus(**{**row, "seats": Seats.of(row)}) for row in runs],
        retractions=[Retraction(**row) for row in retracted],
        on_hold=[OnHold(**row, decide_before=row["starts_at"]) for row in on_hold],
    )


async def forget(running: Running) -> None:
    """A worker: delete what is told no more, some rows at a time."""
    while True:
        gone = await running.database.run(lambda conn: store.forget(conn, KEPT_DAYS, FORGET_ROWS), "worker")
        if not await running.pause(FORGET_EVERY_S if gone < FORGET_ROWS else 1.0):
            return


def _way(taken: Mapping[str, int] | None, kept: Row | None) -> Way:
    def count(span: str) -> Count:
        done, refused, parked = (
            taken[span] if taken else 0,
            kept[f"refused_{span}"] if kept else 0,
            kept[f"parked_{span}"] if kept else 0,
        )
        return Count(received=done + refused + parked, taken=done, refused=refused, parked=parked)

    return Way(last_24_hours=count("day"), last_7_days=count("week"))
