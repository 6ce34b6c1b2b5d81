"""A partner decides of a run that had too few on its day: it takes place all the same, or it is called off for that."""

from kit.database import Connection
from services.catalogue import commands, retracting
from services.catalogue.commands import CONFIRMED, TOO_FEW, Published
from services.catalogue.domain import Rule
from services.catalogue.store import Row, retractions


async def go_ahead(conn: Connection, partner: str, code: str, key: str | None) -> Published:
    """The run takes place, and who has a seat or stands in line is told; doing so twice changes nothing.

    A retraction of it that waits is taken back: this is the partner's newest word. Raises Rule when it is too late, or
    nothing is to be decided.
    """
    course, run = await _locked(conn, partner, code, key)
    if run["decision"] == CONFIRMED:
        return Published(run["id"], run["version"])
    _must_be_open(run)
    await retractions.drop(conn, course["id"], run["id"])
    version = await commands.confirm_run(conn, course, run, run["enrolled"], run["minimum"])
    return Published(run["id"], version, changed=True)


async def call_off(conn: Connection, partner: str, code: str, key: str | None) -> int:
    """The run is cancelled, since too few have come; how many are told, as far as is known. Raises Rule as above."""
    course, run = await _locked(conn, partner, code, key)
    _must_be_open(run)
    people = await retractions.people(conn, course["id"], run["id"])
    await commands.cancel_runs(conn, course, [run], TOO_FEW)
    return people


async def _locked(conn: Connection, partner: str, code: str, key: str | None) -> tuple[Row, Row]:
    """The course, locked, and its run. Raises Rule when there is none, or it was cancelled."""
    course, run = await retracting.find(conn, partner, code, key)
    if run is None:
        raise Rule("unknown_offering", "key", "say which offering: a course takes place by its offerings")
    if run["state"] == "cancelled":
        raise Rule("offering_cancelled", "key", "this offering was cancelled; publish a new one under another key")
    return course, run


def _must_be_open(run: Row) -> None:
    if run["decision"] != TOO_FEW:
        raise Rule("nothing_waits", "key", "nothing waits for a decision: this offering was not judged to have too few")
    if run["has_begun"]:
        raise Rule("offering_begun", "key", "this offering has begun")
