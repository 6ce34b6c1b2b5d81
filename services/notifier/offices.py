"""Tells each partner's office once a day, in one mail, what has happened to its runs, and what waits for its answer.

Counts only: whoever reads an office's mail sees no learner in it. Names are behind the links, and behind the log-in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time
from typing import Any, cast

from jinja2.sandbox import SandboxedEnvironment
from pydantic import ValidationError

from contracts.catalogue import OfferingCancelled, OfferingConfirmed, PartnerState
from contracts.enrolment import (
    EnrolmentPending,
    LearnerEnrolled,
    LearnerMoved,
    LearnerQueued,
    LearnerWithdrew,
    MinimumAtRisk,
    MinimumMissed,
)
from contracts.envelope import Event
from kit import logs
from kit.database import Connection
from kit.listeners import Received
from kit.running import Running
from kit.sealing import Unsealable, unseal
from services.notifier import letters, notices
from services.notifier.channels.channel import Letter
from services.notifier.kinds import PARTNER_DIGEST
from services.notifier.sealed import Contact
from services.notifier.settings import NotifierSettings
from services.notifier.store import offices as store
from services.notifier.store.offices import News, Run
from services.notifier.store.outgoing import Claimed

log = logs.get(__name__)

LOOK_S = 30.0
MOST = 100  # offices in one transaction
HAPPENED = ("at_risk", "on_hold", "confirmed", "cancelled")  # what is told of a run without a number
JUDGED = {"on_hold", "confirmed", "cancelled"}  # and says nothing more of what was at risk before


class Offices:
    """A worker: owes the mails whose hour has come. Many may do so beside each other."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._clock = settings.partners_told_at

    async def run(self, running: Running) -> None:
        """Look until the process is to stop."""
        while True:
            count = await running.database.run(lambda conn: turn(conn, self._clock), "worker")
            if not await running.pause(LOOK_S if count < MOST else 0.1):
                return


async def turn(conn: Connection, clock: time) -> int:
    """One look, in one transaction; returns how many offices it has seen to."""
    due = await store.due(conn, clock, MOST)
    for one in due:
        news = await store.taken(conn, one)
        runs = await store.runs(conn, one.partner, news)
        told = [run for run in runs if is_told(run)]
        if told:
            await store.owe(conn, one, PARTNER_DIGEST, notices.CHANNEL, told[0].offering_id, facts(told, runs))
            log.info("partner_digest_owed", slug=one.partner, count=len(told))
    return len(due)


def is_told(run: Run) -> bool:
    """Whether there is something to tell: who stood in line or asked, and does so no more, was heard of otherwise."""
    passing = {"queued"} if not run.in_line else set()
    passing |= {"asked"} if not run.pending else set()
    return bool(run.news.keys() - passing)


def facts(told: Sequence[Run], runs: Sequence[Run]) -> dict[str, Any]:
    """What the letter needs: the runs are not looked at again."""
    return {
        "told": [_plain(run) for run in told],
        "waiting": [_plain(run) | {"news": _to_decide(run)} for run in runs if run.pending or _to_decide(run)],
    }


def _to_decide(run: Run) -> dict[str, int]:
    """Of the news, that its partner has to say whether it takes place; nothing when that is known by now."""
    return {kind: count for kind, count in run.news.items() if kind == "on_hold" and not run.decided}


def _plain(run: Run) -> dict[str, Any]:
    return {
        "offering_id": str(run.offering_id),
        "title": run.title,
        "starts_at": run.starts_at.isoformat(),
        "ends_at": run.ends_at.isoformat(),
        "in_line": run.in_line,
        "pending": run.pending,
        "news": run.news,
    }


def letter(templates: SandboxedEnvironment, notice: Claimed, public_url: str, unsubscribe: str | None) -> Letter:
    """The mail in its office's language. Raises jinja2.TemplateError."""
    language = letters.known_language(notice.language)
    said = {name: [_run(one, language, public_url) for one in notice.facts[name]] for name in ("told", "waiting")}
    whole = replace(notice, facts=said | {"page": f"{public_url}/partner"}, provider=None)
    return letters.letter(templates, whole, None, unsubscribe)


def _run(one: Mapping[str, Any], language: str, public_url: str) -> dict[str, Any]:
    title, title_language = letters.chosen_title(one["title"], language)
    starts_at, ends_at = (datetime.fromisoformat(one[name]) for name in ("starts_at", "ends_at"))
    news = one["news"]
    return {
        "title": title,
        "title_language": title_language,
        "when": letters.spelled(starts_at, ends_at, language),
        "seated": news.get("seated", 0),
        "withdrew": news.get("withdrew", 0),
        "moved": news.get("moved", 0),
        "in_line": one["in_line"],
        "pending": one["pending"],
        "happened": [kind for kind in HAPPENED if kind in news and not (kind == "at_risk" and JUDGED & news.keys())],
        "link": f"{public_url}/deltakere/{one['offering_id']}",
    }


async def note(conn: Connection, received: Sequence[Received]) -> None:
    """Count what has happened to the runs of partners whose office has an address."""
    news = [
        News(about.partner, about.offering_id, kind, one.envelope.time)
        for one in received
        for about, kind in [(cast(Any, one.event), kind_of(one.event))]
        if kind is not None
    ]
    told = await store.listening(conn, sorted({one.partner for one in news})) if news else set()
    if told:
        await store.note(conn, [one for one in news if one.partner in told])


def kind_of(event: Event | None) -> str | None:
    """What an event is to a partner's office; none for what it does itself, or what changes nothing for it."""
    match event:
        case LearnerEnrolled():
            return "seated"
        case LearnerQueued():
            return "queued"
        case EnrolmentPending():
            return "asked"
        case LearnerWithdrew():
            return None if event.reason in (notices.CANCELLED, "over") else "withdrew"
        case LearnerMoved():  # to a place wanted more: other lists at both
            return "moved"
        case MinimumAtRisk():
            return "at_risk"
        case MinimumMissed():
            return "on_hold" if event.on_too_few == "hold" or _came_late(event) else None
        case OfferingConfirmed():
            return "confirmed"
        case OfferingCancelled():
            return "cancelled"
        case _:
            return None


def _came_late(event: MinimumMissed) -> bool:
    """Whether the run was new only after its day, as its id tells (UUIDv7): nobody could enrol, and the catalogue holds
    it though its rule is to cancel."""
    return event.decide_at.timestamp() * 1000 <= event.offering_id.int >> 80


async def keep(conn: Connection, states: Sequence[PartnerState], private_key: str) -> None:
    """Keep where the newest of these say that offices are written to. The partners themselves are kept already."""
    newest = await store.versions(conn, sorted({one.partner for one in states}))
    for one in states:
        if one.version != newest[one.partner]:
            continue
        if one.sealed is None:
            await store.remove(conn, one.partner)
            continue
        try:
            office = Contact.model_validate(unseal(private_key, one.sealed))
        except (Unsealable, ValidationError) as error:
            # Its keys and state count all the same. An operator gives the address again.
            reason = str(error) if isinstance(error, Unsealable) else "bad_contact"
            log.error("partner_mail_not_opened", slug=one.partner, reason=reason)
            continue
        await store.keep(conn, one.partner, office.email, one.name, office.language)
