"""Takes in a partner's file of courses: the same models and rules as over HTTP and Kafka, all of it or nothing."""

import asyncio
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ValidationError

from contracts.envelope import words_of
from contracts.partner import CourseText, OfferingDates
from kit import idempotency, openapi, problems
from kit.database import Connection
from kit.http import ThisService
from kit.idempotency import Answer, Asked
from kit.partners import Partner, Repeatable
from kit.problems import Problem
from kit.running import Running
from services.catalogue import commands, retracting, sheet
from services.catalogue.api import BASE
from services.catalogue.domain import Rule
from services.catalogue.sheet import Mistake, Sheet, Unreadable
from services.catalogue.store import courses, intake

router = APIRouter(prefix=BASE, tags=["catalogue"])

problems.explain(
    "file-not-valid",
    "The file has mistakes",
    "`errors` names each by row and column; the header is row 1. Nothing was taken: mend the file and send it again.",
)

Outcome = Literal["created", "changed", "unchanged", "retracted"]
COLUMNS = {"places": "arena", "key": "offering"}  # where the rules speak of another field
WITHOUT_COURSE = ("unknown_course", "course_withdrawn")
BODY = {"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}}


MOST_AT_ONCE = 4  # files: each keeps one of the 8 connections that all requests share, for up to half a minute
AGAIN_S = 10


class Files(set[str]):
    """The partners whose files this process is taking in."""


@contextmanager
def taking(running: Running, partner: str) -> Iterator[None]:
    """Take in one file of a partner at a time. Raises Problem (429) while there is another, or there are too many."""
    files: Files = running.kept.setdefault(Files, Files())
    if partner in files or len(files) >= MOST_AT_ONCE:
        whose = "Another file of yours is" if partner in files else "Files of others are"
        words = f"{whose} being taken in. Send this one again when it is done."
        headers = {"retry-after": str(AGAIN_S)}
        raise Problem("too-many-requests", "Too many requests", 429, words, headers=headers)
    files.add(partner)
    try:
        yield
    finally:
        files.remove(partner)


class Item(BaseModel):
    """What became of one course or run. `key` is none for a course."""

    row: int
    code: str
    key: str | None
    outcome: Outcome


class Imported(BaseModel):
    """What was done with a file, or in a dry run would be."""

    dry_run: bool
    created: int
    changed: int
    unchanged: int
    retracted: int
    items: list[Item]


class Rehearsed(Exception):
    """Carries what a dry run has found out of the transaction that it undoes."""

    def __init__(self, found: Imported) -> None:
        super().__init__()
        self.found = found


async def read(content: bytes, charset: str | None = None) -> Sheet:
    """As `sheet.read`, in a thread: a large file takes half a second, in which others are to be answered."""
    return await asyncio.to_thread(sheet.read, content, charset)


async def bring_in(conn: Connection, partner: str, whole: Sheet, dry_run: bool) -> Imported:
    """Publish, and retract, everything in the sheet. Raises Unreadable for broken rules, of all rows; then nothing may
    be kept. What people are enrolled in is retracted when its row has confirmed it, else it is a mistake of its row."""
    items: list[tuple[str, Item]] = []  # each with the event that would have said the same
    mistakes: list[Mistake] = []
    refused: set[str] = set()
    for course in whole.courses:
        try:
            async with conn.transaction():
                text = await _whole_course(conn, partner, course, whole.columns)
                done = await commands.publish_course(conn, partner, course.code, text)
        except ValidationError as error:  # what has no column was taken under rules that have changed since
            refused.add(course.code)
            mistakes += [Mistake(course.row, "code", words) for words in _kept_rules(error)]
            continue
        except Rule as rule:
            refused.add(course.code)
            mistakes.append(Mistake(course.row, rule.field, rule.text))
            continue
        items.append(("CoursePublished", Item(row=course.row, code=course.code, key=None, outcome=_outcome(done))))
    new = {item.code for _, item in items if item.outcome == "created"}
    for run in whole.runs:
        try:
            async with conn.transaction():
                dates = run.dates if run.code in new else await _whole_run(conn, partner, run)
                done = await commands.publish_offering(conn, partner, run.code, run.key, dates)
        except ValidationError as error:  # what the file says does not go with what stays as it was
            mistakes += [Mistake(run.row, "offering", words) for words in _kept_rules(error)]
            continue
        except Rule as rule:
            if rule.code in WITHOUT_COURSE and run.code in refused:
                continue  # its course was refused: that is one mistake, not two
            column = COLUMNS.get(rule.field, rule.field)
            named = rule.text.split(" is ")[0].split(", ")  # whole: one arena's name may be a part of another's
            strange = [row for arena, row in run.rows.items() if column == "arena" and arena in named]
            mistakes += [Mistake(row, column, rule.text) for row in strange or [run.row]]
            continue
        items.append(("OfferingPublished", Item(row=run.row, code=run.code, key=run.key, outcome=_outcome(done))))
    for one in sorted(whole.retractions, key=lambda one: one.key is None):  # runs first: each has a reason of its own
        try:
            async with conn.transaction():
                done = await retracting.cancel(conn, partner, one.code, one.key, one.reason, one.confirmed)
        except Rule as rule:
            if rule.code not in WITHOUT_COURSE or one.code not in refused:
                mistakes.append(Mistake(one.row, COLUMNS.get(rule.field, rule.field), rule.text))
            continue
        what = "CourseRetracted" if one.key is None else "OfferingRetracted"
        outcome: Outcome = "retracted" if done.changed else "unchanged"
        items.append((what, Item(row=one.row, code=one.code, key=one.key, outcome=outcome)))
    if mistakes:
        raise Unreadable(sorted(mistakes, key=lambda one: (one.row, one.column)))
    if not dry_run:
        whats, about = [what for what, _ in items], [item for _, item in items]
        await intake.note_file(conn, partner, whats, [one.code for one in about], [one.key for one in about])
    counts = {name: sum(item.outcome == name for _, item in items) for name in get_args(Outcome)}
    shown = sorted((item for _, item in items), key=lambda item: (item.row, item.key or ""))
    return Imported(dry_run=dry_run, **counts, items=shown)


async def _whole_course(conn: Connection, partner: str, course: sheet.Course, columns: Collection[str]) -> CourseText:
    """What the file says of a course; what it has no column for, a description or a text in Sámi, stays as it was."""
    row = await courses.lock_course(conn, partner, course.code)
    if row is None:
        return course.text
    said = course.text.model_dump(mode="json", exclude=commands.ADDRESS)
    for name, before in json.loads(row["content"]).items():
        if isinstance(before, dict):  # by language
            said[name] |= {one: text for one, text in before.items() if f"{name}_{one}" not in columns}
        elif name not in columns:
            said[name] = before
    return CourseText.model_validate(said)


async def _whole_run(conn: Connection, partner: str, run: sheet.Run) -> OfferingDates:
    """What the file says of a run; its rules, for which there are no columns, stay as they were, and its sessions do as
    long as its dates are the same. Raises ValidationError when the one does not go with the other, and Rule."""
    course = await commands.locked(conn, partner, run.code)
    row = await courses.offering_of(conn, course["id"], run.key)
    if row is None:
        return run.dates
    before = json.loads(row["content"])
    said = run.dates.model_dump(mode="json", include={"starts_at", "ends_at", "places"})
    if any(before[name] != said[name] for name in ("starts_at", "ends_at")):
        before["sessions"] = []
    return OfferingDates.model_validate(before | said)


def _kept_rules(error: ValidationError) -> list[str]:
    told = error.errors(include_input=False, include_url=False, include_context=False)
    said = [(one["loc"][0], words_of(one)) for one in told]
    return [f"its {field} {rule}: a file cannot change it, HTTP and Kafka can" for field, rule in said]


def _outcome(done: commands.Published) -> Outcome:
    return "created" if done.created else "changed" if done.changed else "unchanged"


def refused(error: Unreadable) -> Problem:
    """The mistakes as an answer."""
    errors = [{"field": f"row {one.row} {one.column}".strip(), **asdict(one)} for one in error.mistakes]
    count = f"{len(errors)} mistakes; the first is" if len(errors) > 1 else "1 mistake, which is"
    words = f"{count} in row {errors[0]['row']}. Nothing was taken."
    return Problem("file-not-valid", "The file has mistakes", 422, words, errors=errors)


@router.post(
    "/partners/{partner}/import",
    response_model=Imported,
    responses=openapi.problems(403, 409, 415, 429, kinds={422: ("file-not-valid",)}),
    openapi_extra=BODY,
)
async def import_file(
    partner: Partner,
    request: Request,
    running: ThisService,
    asked: Repeatable,
    dry_run: Annotated[bool, Query()] = False,
) -> Response:
    """Take in or retract courses and runs by a CSV file: `;` between columns, a row for each place; all or nothing.

    One file at a time.
    """
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "text/csv":
        words = "The body must be sent as text/csv."
        raise Problem("wrong-content-type", "Wrong content type", 415, words)
    charset = next((p.split("=")[1].strip(' "') for p in parameters.split(";") if "charset=" in p.lower()), None)
    content = await request.body()
    with taking(running, partner):
        return await _answer(running, partner, content, charset, dry_run, None if dry_run else asked)


async def _answer(
    running: Running, partner: str, content: bytes, charset: str | None, dry_run: bool, asked: Asked | None
) -> Response:
    async def work(conn: Connection) -> Response:
        async def effect() -> Answer:
            found = await bring_in(conn, partner, whole, dry_run)
            if dry_run:
                raise Rehearsed(found)
            return Answer(found)

        return await idempotency.once(conn, asked, effect)

    try:
        whole = await read(content, charset)
        return await running.database.run(work)
    except Unreadable as error:
        raise refused(error) from None
    except Rehearsed as rehearsed:
        return Response(rehearsed.found.model_dump_json(), media_type="application/json")
