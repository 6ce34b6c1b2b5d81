"""A provider's file of courses from a form: tried without keeping anything, or taken in, all of it or nothing."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.responses import RedirectResponse, Response

from kit import acts
from kit.acts import Operator
from kit.console import operator
from kit.database import Connection, Database
from kit.http import ThisService
from kit.pages.languages import spoken
from kit.pages.visitors import Acting, form
from services.catalogue import sheet
from services.catalogue.details import Shown
from services.catalogue.imports import Imported, Rehearsed, bring_in, read, taking
from services.catalogue.mending import in_words
from services.catalogue.provider import Provider, TheProvider
from services.catalogue.sheet import Sheet, Unreadable
from services.catalogue.site import site

EXAMPLE = (
    "code;title_nb;summary_nb;subjects;studiepoeng;language;offering;starts_at;ends_at;arena;capacity\n"
    "HAV-1;Havbruk for nye;Om laks;havbruk;7,5;nb;V27;01.02.2027 18:00;01.02.2027 20:30;online;20\n"
    "HAV-1;;;;;;V27;;;bronnoysund;8\n"
)
Number = Annotated[int | None, Field(ge=0, le=100_000)]

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Wrong:
    """A mistake in a file, by its row and column, and how to mend it."""

    row: int
    column: str
    mend: Shown


def answer(
    request: Request,
    provider: Provider,
    status: int = 200,
    *,
    asked: str = "",
    mistakes: tuple[Wrong, ...] = (),
    tried: Imported | None = None,
    kept: tuple[int, int, int, int] | None = None,
) -> Response:
    """The page. `asked` is what is wrong with the form itself: there is no file, or nothing may be taken."""
    return site().page(
        request,
        "upload.html",
        status,
        visitor=provider.visitor,
        provider=provider,
        example=EXAMPLE,
        columns=sheet.COLUMNS,
        most_rows=sheet.MOST_ROWS,
        asked=asked,
        mistakes=mistakes,
        tried=tried,
        kept=kept,
    )


@router.get("/partner/fil")
async def read_upload(
    request: Request,
    provider: TheProvider,
    nye: Number = None,
    endret: Number = None,
    like: Number = None,
    avlyst: Number = None,
) -> Response:
    """The form; after a file was taken in, what became of it."""
    counts = (nye, endret, like, avlyst)
    kept = (nye or 0, endret or 0, like or 0, avlyst or 0) if any(one is not None for one in counts) else None
    return answer(request, provider, kept=kept)


@router.post("/partner/fil")
async def send_file(request: Request, _: Acting, provider: TheProvider, running: ThisService) -> Response:
    """Try the file, or take it in."""
    fields = await form(request)
    file = fields.get("fil")
    content = await file.read() if isinstance(file, UploadFile) else b""
    if provider.row["state"] == "suspended":
        return answer(request, provider, 403, asked="suspended")
    if not content.strip():
        return answer(request, provider, 422, asked="no-file")
    dry_run = fields.get("gjor") != "lagre"
    who = operator(provider.visitor) if provider.by_operator else None
    try:
        with taking(running, provider.slug):
            done = await taken_in(running.database, provider.slug, await read(content), dry_run, who)
    except Unreadable as error:
        language = spoken(request)
        mistakes = tuple(Wrong(one.row, one.column, in_words(one.detail, language)) for one in error.mistakes)
        return answer(request, provider, 422, mistakes=mistakes)
    if dry_run:
        return answer(request, provider, tried=done)
    counts = {"nye": done.created, "endret": done.changed, "like": done.unchanged, "avlyst": done.retracted or None}
    return RedirectResponse(provider.address("/fil", **counts), 303)


async def taken_in(database: Database, partner: str, whole: Sheet, dry_run: bool, who: Operator | None) -> Imported:
    """What was done with a file, or in a dry run would be. Raises Unreadable; then nothing was done.

    What an operator (`who`) does is written down.
    """

    async def work(conn: Connection) -> Imported:
        done = await bring_in(conn, partner, whole, dry_run)
        if who is not None:
            await acts.add(conn, who, "import", [partner])  # goes with the rest when this is a dry run
        if dry_run:
            raise Rehearsed(done)
        return done

    try:
        return await database.run(work)
    except Rehearsed as rehearsed:
        return rehearsed.found
