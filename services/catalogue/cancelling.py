"""Partners retract what they have published over HTTP or take it back, and say that a run with too few takes place."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel

from contracts.fields import Code, Prose
from contracts.partner import Confirmed, names_nobody
from kit import openapi, problems
from kit.http import Db
from kit.partners import Partner, Repeatable, Speaking
from services.catalogue import judging, retracting
from services.catalogue.answers import CourseTaken, OfferingTaken
from services.catalogue.api import BASE, done

router = APIRouter(prefix=BASE, tags=["catalogue"])

problems.explain(
    "people-enrolled",
    "People are enrolled",
    "`people` have a seat, wait for approval or stand in line, as far as the catalogue knows by now. Nothing was done. "
    "To cancel and have them told, send the same again with `confirmed` true in its body.",
)


class Withdrawing(BaseModel, extra="forbid"):
    """`confirmed`: also when people are enrolled."""

    confirmed: Confirmed = False


class Cancelling(Withdrawing):
    """`reason` is why a run is cancelled: all who lose a seat or a place by it read it in their mail."""

    reason: Annotated[Prose, AfterValidator(names_nobody)] = ""


RUN = "/partners/{partner}/courses/{code}/offerings/{key}"
COURSE = "/partners/{partner}/courses/{code}"


@router.post(f"{RUN}/cancel", response_model=OfferingTaken, responses=openapi.problems(403, 404, 409))
async def cancel_offering(
    code: Code,
    key: Code,
    partner: Partner,
    caller: Speaking,
    database: Db,
    asked: Repeatable,
    cancelling: Cancelling | None = None,
) -> Response:
    """Cancel a run. Everybody who has a seat or stands in line is told. One that is over took place: 409.

    With anybody there it is 409 `people-enrolled`, which says how many, until it comes with `confirmed` true. An
    operator is not asked.
    """
    said = cancelling or Cancelling()
    confirmed = said.confirmed or caller.role == "operator"
    return await done(
        database,
        asked,
        "offering_id",
        (partner, "OfferingRetracted", code, key),
        lambda conn: retracting.cancel(conn, partner, code, key, said.reason, confirmed),
    )


@router.post(f"{COURSE}/withdraw", response_model=CourseTaken, responses=openapi.problems(403, 404, 409))
async def withdraw_course(
    code: Code,
    partner: Partner,
    caller: Speaking,
    database: Db,
    asked: Repeatable,
    withdrawing: Withdrawing | None = None,
) -> Response:
    """Offer a course no more, and cancel its runs; with anybody enrolled in one, as for a run."""
    confirmed = (withdrawing or Withdrawing()).confirmed or caller.role == "operator"
    return await done(
        database,
        asked,
        "course_id",
        (partner, "CourseRetracted", code, None),
        lambda conn: retracting.cancel(conn, partner, code, None, confirmed=confirmed),
    )


@router.post(f"{RUN}/keep", response_model=OfferingTaken, responses=openapi.problems(403, 404, 409))
async def keep_offering(code: Code, key: Code, partner: Partner, database: Db, asked: Repeatable) -> Response:
    """Take back the retraction of a run that waits for a decision; where none does, nothing changes."""
    return await done(
        database,
        asked,
        "offering_id",
        (partner, "OfferingKept", code, key),
        lambda conn: retracting.keep(conn, partner, code, key),
    )


@router.post(f"{RUN}/confirm", response_model=OfferingTaken, responses=openapi.problems(403, 404, 409))
async def confirm_offering(code: Code, key: Code, partner: Partner, database: Db, asked: Repeatable) -> Response:
    """Say of a run that was judged `too_few` that it takes place. Who has a seat or stands in line is told, once.

    To decide that it does not, cancel it. One that is confirmed stays so, and nobody is told again.
    """
    return await done(
        database,
        asked,
        "offering_id",
        (partner, "OfferingConfirmed", code, key),
        lambda conn: judging.go_ahead(conn, partner, code, key),
    )


@router.post(f"{COURSE}/keep", response_model=CourseTaken, responses=openapi.problems(403, 404, 409))
async def keep_course(code: Code, partner: Partner, database: Db, asked: Repeatable) -> Response:
    """As for a run, when it is the whole course that was retracted."""
    return await done(
        database,
        asked,
        "course_id",
        (partner, "CourseKept", code, None),
        lambda conn: retracting.keep(conn, partner, code, None),
    )
