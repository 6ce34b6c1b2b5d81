"""Who may do more than a learner: the commands by which operators give people a role or a partner to act for."""

import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import cyclopts

from kit import acts
from kit.database import Connection
from kit.operating import Json, asked, ended, me, shown, whole
from kit.settings import read
from services.enrolment.settings import EnrolmentSettings
from services.enrolment.store import sessions
from services.enrolment.store.sessions import Member

T = TypeVar("T")

ORGNR = 9  # digits
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def operators(app: cyclopts.App) -> None:
    """Give the command line what operators do with people's roles."""
    people = cyclopts.App(name="people", help="Who acts for a partner or an employer, or runs the system.")
    app.command(people)

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


async def _listed(conn: Connection) -> list[dict[str, str | None]]:
    return [asdict(one) for one in await sessions.members(conn)]


def _ask(work: Callable[[Connection], Awaitable[T]]) -> T:
    return ended(asked(read(EnrolmentSettings), whole(work)))
