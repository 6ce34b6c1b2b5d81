"""What partners ask over HTTP: who attends their courses, and to let in or turn away who waits for approval."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.fields import Line
from kit import openapi, tags
from kit.acts import Operator
from kit.auth import Caller
from kit.http import Db
from kit.partners import RepeatableBy, Speaking, Writing, must_act_for
from kit.tags import IfMatch
from services.enrolment import refusals
from services.enrolment.acts import Kind
from services.enrolment.commands import Act
from services.enrolment.desk import Desk, Request
from services.enrolment.domain import Enrolment
from services.enrolment.shown import BASE, EnrolmentShown, tag_of
from services.enrolment.store import enrolments, seats
from services.enrolment.store.enrolments import Owner

router = APIRouter(prefix=BASE, tags=["partners"])

MOST_LISTED = 500
FORMULA = re.compile(r"""(^|[,;\t])(?=[\s"]*[=+@-])""")  # before one, at the beginning of what may be a cell
ACT = openapi.problems(403, 404, 412, kinds={409: ("not-pending", "offering-closed")})


class Attending(BaseModel):
    """One row of a roster."""

    enrolment_id: UUID
    state: str
    name: str
    place: str | None
    group: str | None = None


class Roster(BaseModel):
    items: list[Attending]


class Denying(BaseModel):
    """A partner says no."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[Line, Field(description="shown to the learner as it is: name nobody in it")]


@router.get(
    "/offerings/{offering_id}/roster",
    response_model=Roster,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **openapi.problems(403, 404)},
)
async def read_roster(
    offering_id: UUID,
    caller: Speaking,
    database: Db,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    after: UUID | None = None,
    format: Annotated[str | None, Query(pattern="^(json|csv)$")] = None,
    accept: Annotated[str, Header(description="text/csv: the same as `?format=csv`")] = "",
) -> Response:
    """Who has a seat, waits for approval or stands in line, in the order of asking; `?format=csv` for a spreadsheet."""
    as_csv = format == "csv" or (format is None and "text/csv" in accept.lower() and "json" not in accept.lower())
    async with database.reading() as conn:
        offering = await seats.offering(conn, offering_id)
        if offering is None:
            raise refusals.unknown_offering()
        must_act_for(caller, offering.partner)
        found = await enrolments.roster(conn, offering_id, after, limit + 1)
    page = found[:limit]
    rows = [attending(one) for one in page]
    headers = {"cache-control": "no-store"}
    if len(found) > limit:
        also = "&format=csv" if as_csv else ""
        next_page = f"{BASE}/offerings/{offering_id}/roster?limit={limit}&after={page[-1].id}{also}"
        headers["link"] = f'<{next_page}>; rel="next"'
    if as_csv:
        return file(offering_id, rows, headers)
    return Response(Roster(items=rows).model_dump_json(), headers=headers, media_type="application/json")


def attending(one: Enrolment) -> Attending:
    return Attending(enrolment_id=one.id, state=one.state, name=one.name, place=one.place, group=one.group)


def file(offering_id: UUID, rows: list[Attending], headers: Mapping[str, str] | None = None) -> Response:
    """The roster as a file to keep, in the words of the interface."""
    table = [[str(value or "") for value in row.model_dump().values()] for row in rows]
    return spreadsheet(f"roster-{offering_id}", list(Attending.model_fields), table, headers)


def spreadsheet(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[str]], headers: Mapping[str, str] | None = None
) -> Response:
    """A file of that name as CSV for a Norwegian spreadsheet: `;` between, UTF-8 with its mark.

    Names come from strangers. What a spreadsheet would take for a formula gets an apostrophe in front, also behind what
    another one takes for the end of a cell: to that one, a quote in the middle of a line quotes nothing.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_harmless(cell) for cell in row)
    named = {"content-disposition": f'attachment; filename="{name}.csv"', "cache-control": "no-store"}
    return Response(text.getvalue().encode("utf-8-sig"), headers={**named, **(headers or {})}, media_type="text/csv")


def _harmless(cell: str) -> str:
    return FORMULA.sub(r"\1'", cell)


def partners_own(kind: Kind, enrolment_id: UUID, caller: Caller, if_match: str | None, reason: str = "") -> Act:
    """What a partner does with an enrolment of its own courses; 412 when it is not as it was read."""

    def may(owner: Owner) -> bool:
        return caller.role == "operator" or caller.partner == owner.partner

    def expect(here: Enrolment) -> None:
        tags.must_match(if_match, tag_of(here))

    who = Operator("console", caller.key, caller.name) if caller.role == "operator" else None
    return Act(kind, enrolment_id, may, expect, reason=reason, operator=who)


@router.post("/enrolments/{enrolment_id}/approve", response_model=EnrolmentShown, responses=ACT)
async def approve(
    enrolment_id: UUID, caller: Writing, repeatable: RepeatableBy, desk: Desk, if_match: IfMatch = None
) -> Response:
    """Let a learner in who waits for it: a seat, or the place in line that the time of asking gives."""
    return await desk.submit(Request(partners_own("approve", enrolment_id, caller, if_match), repeatable))


@router.post("/enrolments/{enrolment_id}/deny", response_model=EnrolmentShown, responses=ACT)
async def deny(
    enrolment_id: UUID, body: Denying, caller: Writing, repeatable: RepeatableBy, desk: Desk, if_match: IfMatch = None
) -> Response:
    """Turn a learner away who waits for approval, with a reason that is shown to them."""
    return await desk.submit(Request(partners_own("deny", enrolment_id, caller, if_match, body.reason), repeatable))
