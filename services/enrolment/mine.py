"""The page where a person sees their own courses: /min-side."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from kit.http import Db
from kit.pages.visitors import Visiting
from services.enrolment.desk import login
from services.enrolment.shown import shown
from services.enrolment.site import site
from services.enrolment.store import enrolments

MOST_SHOWN = 100

router = APIRouter(include_in_schema=False)  # pages for people, not an interface for programs


@router.get("/min-side")
async def mine(request: Request, visitor: Visiting, database: Db) -> Response:
    """One's own enrolments, newest first."""
    async with database.reading() as conn:
        found = await enrolments.own_enrolments(conn, *login(visitor.caller), None, MOST_SHOWN)
    return site().page(request, "mine.html", visitor=visitor, enrolments=[shown(one) for one in found])
