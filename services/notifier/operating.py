"""What operators do with mail by command: list addresses that are refused, write to one again, look at every text."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

import cyclopts

from kit import acts
from kit.database import Connection
from kit.operating import Json, asked, ended, me, shown, whole
from kit.settings import read
from services.notifier import bounces, preview
from services.notifier.settings import NotifierSettings
from services.notifier.store import bounces as store

T = TypeVar("T")


def operators(app: cyclopts.App) -> None:
    """Give the command line what operators do with mail."""
    mail = cyclopts.App(
        name="mail", help="Addresses that mail servers refuse for good: list them, write to them again."
    )
    app.command(mail)

    @mail.command(name="suppressed")
    def _suppressed(*, as_json: Json = False) -> None:
        """List addresses that nothing is sent to: since when, whose, why, and how many notices were not sent.

        No address is shown, only its digest. A learner who gives another address is out of the list at once.
        Example: mail suppressed --json
        """
        shown(_ask(store.listed), as_json, "no address is suppressed")

    @mail.command(name="release")
    def _release(learner_id: UUID, *, dry_run: Annotated[bool, cyclopts.Parameter(negative="")] = False) -> None:
        """Write to a learner's address, and to their phone, again. What was not sent meanwhile stays unsent.

        Example: mail release 019ab4a0-b7f0-7278-b1fa-bdb6ebe4ec44 --dry-run
        """
        found, done = _ask(lambda conn: release(conn, read(NotifierSettings), learner_id, dry_run))
        if not found:
            sys.exit(f"No address of {learner_id} is known here. See: mail suppressed")
        if not done:
            sys.exit(f"The address of {learner_id} is not suppressed. See: mail suppressed")
        print(
            f"{learner_id} would be written to again." if dry_run else f"{learner_id} is written to again from now on."
        )

    @app.command(name="messages")
    def _messages(folder: Path = preview.FOLDER) -> None:
        """Write every mail in every language as a page to look at, and say where. Needs no settings and no server.

        Example: messages .kursnett/messages
        """
        print(f"Look at {preview.write(folder).resolve().as_uri()}")


def _ask(work: Callable[[Connection], Awaitable[T]]) -> T:
    return ended(asked(read(NotifierSettings), whole(work)))


async def release(conn: Connection, settings: NotifierSettings, learner_id: UUID, dry_run: bool) -> tuple[bool, bool]:
    """Take a learner's address and number out of the list: (whether one is known, whether it was there)."""
    known = await store.reached(conn, learner_id)
    if not known:
        return False, False
    private_json = settings.contact_private_key.get_secret_value()
    addresses = [digest for one in known for digest in bounces.digests(private_json, one)]
    listed = await (store.among if dry_run else store.remove)(conn, addresses)
    if listed and not dry_run:
        await acts.add(conn, me(), "mail release", [str(learner_id)])
    return True, bool(listed)
