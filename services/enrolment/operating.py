"""The operators' commands about people: who may do more than a learner, and to have somebody forgotten."""

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import cyclopts

from kit import acts
from kit.database import Connection
from kit.operating import Json, asked, ended, me, shown, whole
from kit.settings import read
from services.enrolment import erasing
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import erasures, personal, sessions
from services.enrolment.store.sessions import Member

T = TypeVar("T")

ORGNR = 9  # digits
MOST_LISTED = 1000
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def operators(app: cyclopts.App) -> None:
    """Give the command line what operators do with people's roles."""
    people = cyclopts.App(name="people", help="Who acts for a partner or runs the system; and to have one forgotten.")
    app.command(people)
    _forgetting(people)

    @people.command(name="list")
    def _list(*, as_json: Json = False) -> None:
        """List everybody who may do more than a learner.

        Example: people list --json
        """
        shown(_ask(_listed), as_json, "everybody is a learner")

    @people.command(name="add")
    def _add(
        subject: str,
        *,
        role: Literal["learner", "operator"] = "learner",
        partner: str | None = None,
        employer: str | None = None,
        issuer: str | None = None,
    ) -> None:
        """Give a person a role, a partner or an employer, in place of what they had. It counts from their next page.

        Examples: people add tor --partner torgar, people add drift --role operator

        Parameters
        ----------
        subject
            What the issuer calls the person: the `sub` of their ID token, and on a local stack the log-in name.
        role
            operator: runs the system, and sees every partner's pages.
        partner
            The partner that the person acts for, by its slug.
        employer
            The employer that the person acts for, by its organisation number.
        issuer
            Whose `sub` this is; the configured issuer when it is not said.
        """
        if role != "operator" and not partner and not employer:
            sys.exit("Say what the person may do: --role operator, --partner SLUG or --employer ORGNR.")
        if employer is not None and not (employer.isascii() and employer.isdecimal() and len(employer) == ORGNR):
            sys.exit(f"An organisation number has {ORGNR} digits.")
        if partner and not SLUG.fullmatch(partner):
            sys.exit("A partner is named by its slug, such as torgar: a-z, 0-9 and hyphens. See: partners list")
        if issuer is not None and not urlsplit(issuer).netloc:
            sys.exit("An issuer is an address, such as https://login.example.no: exactly the `iss` of its tokens.")
        if not subject or len(subject) > 255 or not subject.isprintable():
            sys.exit("The subject must be 1 to 255 printable characters, as in the issuer's `sub`.")
        settings = read(EnrolmentSettings)
        one = Member(issuer or settings.issuer, subject, role, partner, employer)

        async def work(conn: Connection) -> None:
            await sessions.keep_member(conn, one)
            await acts.add(conn, me(), "people add", [subject], role if not partner else f"{role} of {partner}")

        _ask(work)
        print(f"{subject} is kept as {role}{f' of {partner or employer}' if partner or employer else ''}.")

    @people.command(name="remove")
    def _remove(subject: str, *, issuer: str | None = None) -> None:
        """Let a person be a learner again, and end their sessions.

        Example: people remove tor
        """
        whose = issuer or read(EnrolmentSettings).issuer

        async def work(conn: Connection) -> tuple[bool, int]:
            ended = await sessions.end_of(conn, whose, subject)
            dropped = await sessions.drop_member(conn, whose, subject)
            await acts.add(conn, me(), "people remove", [subject] if dropped or ended else [])
            return dropped, ended

        had_role, ended = _ask(work)
        if not had_role and not ended:
            sys.exit(f"{subject} has no role, and is not logged in. See: people list")
        print(f"{subject} is {'a learner again' if had_role else 'a learner'}, and is logged out.")


def _forgetting(people: cyclopts.App) -> None:
    @people.command(name="erase")
    def _erase(
        id_: UUID,
        *,
        reason: str,
        dry_run: Annotated[bool, cyclopts.Parameter(negative="")] = False,
        yes: Annotated[bool, cyclopts.Parameter(negative="")] = False,
        as_json: Json = False,
    ) -> None:
        """Forget a person in all services who cannot log in to ask for it: seats go to the next in line, mails stop.

        There is no way back. Of somebody who is forgotten already it is asked of the other services once more.
        Example: people erase 019ab4a0-b7f0-7278-b1fa-bdb6ebe4ec44 --reason "letter of 12 May" --dry-run

        Parameters
        ----------
        id_
            The learner's id, or the id of one of their enrolments, as a roster shows it.
        reason
            Why, for the list of what operators do (`acts`). Name nobody in it: it is never erased.
        dry_run
            Say what would be done, and do nothing.
        yes
            Do it: nobody is asked.
        """
        if not reason.strip():
            sys.exit("Say why: --reason. It stands in the list of what operators do, so name nobody in it.")
        if not dry_run and not yes:
            sys.exit("There is no way back: look at it with --dry-run first, and then add --yes.")
        told = _ask(lambda conn: erase(conn, read(EnrolmentSettings), id_, reason.strip(), dry_run))
        if told is None:
            sys.exit(f"There is no learner {id_}, and no enrolment. A roster shows the ids of enrolments.")
        if as_json:
            shown([told], True, "")
            return
        would = "would be" if dry_run else "are"
        print(f"{told['withdrawn']} seats and places in line {would} given up, {told['enrolments']} lose their name.")
        if not dry_run:
            print(f"Asked of the other services as {told['request_id']}. See: people erasures")
        _tell_of(told["not_reached"])

    @people.command(name="erasures")
    def _erasures(*, as_json: Json = False) -> None:
        """List who was to be forgotten, and which service has not answered; what is not done comes first.

        Example: people erasures --json
        """
        rows, not_reached = _ask(_asked_for)
        shown(rows, as_json, "nobody has asked to be forgotten")
        if not as_json:
            _tell_of(not_reached)


def _tell_of(not_reached: Sequence[str]) -> None:
    if not_reached:
        print(
            f"From before a restore, and not reached: {', '.join(not_reached)}. Who is forgotten is still in there. "
            f"When nobody asks for them any more, drop each, as admin: DROP DATABASE {not_reached[0]}"
        )


async def erase(
    conn: Connection, settings: EnrolmentSettings, id_: UUID, reason: str, dry_run: bool
) -> dict[str, Any] | None:
    """Forget whose id this is, or count what that would be; none when it is nobody's. Raises erasing.Moved."""
    learner_id = await erasures.learner_of(conn, id_)
    if learner_id is None:
        return None
    not_reached = await erasures.beside(conn)
    told: dict[str, Any] = {"learner_id": str(learner_id), "dry_run": dry_run, "not_reached": not_reached}
    if dry_run:
        live, all_ = await personal.live(conn, learner_id), len(await personal.enrolments(conn, learner_id))
        return {**told, "withdrawn": live, "enrolments": all_}
    done = await erasing.forget(conn, learner_id, "operator", settings)
    await acts.add(conn, me(), "people erase", [str(learner_id)], reason)
    return {
        **told,
        "request_id": str(done.request_id),
        "withdrawn": done.withdrawn,
        "enrolments": done.anonymised,
    }


async def _asked_for(conn: Connection) -> tuple[list[dict[str, Any]], list[str]]:
    """The requests, and what they do not reach."""
    rows = [asdict(one) for one in await erasures.listed(conn, MOST_LISTED)]
    told = [{**row, "request_id": str(row["request_id"]), "learner_id": str(row["learner_id"])} for row in rows]
    return told, await erasures.beside(conn)


async def _listed(conn: Connection) -> list[dict[str, str | None]]:
    return [asdict(one) for one in await sessions.members(conn)]


def _ask(work: Callable[[Connection], Awaitable[T]]) -> T:
    return ended(asked(read(EnrolmentSettings), whole(work)))
