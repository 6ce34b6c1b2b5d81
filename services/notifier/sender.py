"""Sends what is owed: takes notices in hand, gives them to their channel, and tells what became of them."""

import asyncio
import functools
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from contracts.notifier import NoticeFailed, NoticeSent
from kit import logs, outbox, tracing, trail
from kit.database import Connection, Unknown, is_away
from kit.groupcommit import GroupCommit
from kit.running import Running
from kit.trail import Trail, following
from services.notifier import (
    appointments,
    bounces,
    decisions,
    digests,
    domains,
    letters,
    offers,
    offices,
    reminders,
    texts,
    unsubscribe,
)
from services.notifier.channels import CHANNELS
from services.notifier.channels.channel import Channel, Later, Letter, Never
from services.notifier.decisions import CHANGED, Decision, Hold, Suppress
from services.notifier.digests import DIGEST
from services.notifier.kinds import EMAIL, KINDS, ONCE, PARTNER_DIGEST, SMS, TRANSACTIONAL
from services.notifier.settings import NotifierSettings, sender
from services.notifier.store import bounces as bounce_store
from services.notifier.store import holding, outgoing
from services.notifier.store import texts as text_store
from services.notifier.store.outgoing import Claimed
from services.notifier.tokens import Link, in_order

log = logs.get(__name__)

T = TypeVar("T")

# The answer to COMMIT was lost, or somebody holds a lock for long: asked again, it will be known or done.
WAITED_OUT = (Unknown, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)

BOUNCING = (EMAIL, SMS)  # the channels that say of an address that it is none
IDLE_S = 0.1  # how soon a new notice is seen; one indexed question to the database
AWAY_S = 1.0  # between questions to a database that does not answer
FIRST_DELAY_S = 2.0
LONGEST_DELAY_S = 900.0  # a mail server that greylists wants minutes; a learner should not wait for hours
# Letters in hand for each connection: a claim costs four round trips, however many it takes. More where they go
# quickly, as many as go in so long a time; where the server takes its time, few wait for their turn.
AHEAD, MOST_AHEAD = 8, 32
AHEAD_S = 0.1
TURN_S = 4.0  # how long a letter waits for both its turns before it is put back, for another replica perhaps
SLOW_S = 60.0  # after one was put back, none is taken ahead for so long
NOTING_S = 15.0  # how long we try to note what became of a notice; with its turn and the mail's 40 s it is under 60 s
GATHER_S = (
    0.005  # in a rush, how long what was sent waits for others to be noted with: five round trips for all of them
)
STOP_S = 15.0  # letters in hand at a stop may take so long; the process has 18 s


class Sender:
    """One worker of a service; many services may send beside each other, each notice goes through one of them."""

    def __init__(self, settings: NotifierSettings, channels: Mapping[str, Channel] | None = None) -> None:
        self._settings = settings
        self._channels = channels
        self._templates = letters.environment(settings.public_url)
        self._sender = sender(settings.mail_from)
        self._key = settings.contact_private_key.get_secret_value()
        self._turns = asyncio.Semaphore(settings.sender_connections)
        self._domains = domains.Domains(settings.sender_per_domain)
        self._put_back_at = -SLOW_S
        self._ahead = Ahead(settings.sender_connections)
        self._put_back: GroupCommit[tuple[Claimed, float], None]
        self._sent: GroupCommit[tuple[Claimed, Trail], None]

    async def run(self, running: Running) -> None:
        """Send until the process is asked to stop; letters in hand are finished."""
        channels = self._channels or {name: make(self._settings) for name, make in CHANNELS.items()}
        self._sent = GroupCommit(running.database, _note_sent, "worker", GATHER_S)
        self._put_back = GroupCommit(running.database, _put_back, "worker")
        in_hand: dict[asyncio.Task[None], UUID] = {}
        sure = not self._settings.instance  # that we know of all that is ours; without a name nobody can ask
        try:
            while not running.stopping.is_set():
                if not sure:
                    sure = await self._take_back(running, list(in_hand.values()))
                most = self._settings.sender_connections if self._is_slow() else self._ahead.most
                free = most - len(in_hand)
                claimed = await self._claim(running, free) if 2 * free >= most and sure else []
                if claimed is None:
                    sure, claimed = not self._settings.instance, []
                for notice in claimed:
                    in_hand[asyncio.create_task(self._send(running, channels[notice.channel], notice))] = notice.id
                if in_hand and (claimed or 2 * free < most):
                    await asyncio.wait(in_hand, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await running.pause(IDLE_S)
                done = [task for task in in_hand if task.done()]
                self._ahead.gone(len(done))
                for task in done:
                    del in_hand[task]
                    task.result()
        finally:
            if in_hand:
                _, late = await asyncio.wait(in_hand, timeout=STOP_S)
                for task in late:
                    task.cancel()
            for channel in channels.values():
                await channel.close()

    async def _take_back(self, running: Running, in_hand: Sequence[UUID]) -> bool:
        """Let go of what this replica has in `sending` and not in hand. False when the database is away."""
        name = self._settings.instance
        count = await self._ask(running, lambda conn: outgoing.take_back(conn, name, in_hand))
        if count:
            log.warning("notices_taken_back", count=count)
        return count is not None

    async def _claim(self, running: Running, most: int) -> list[Claimed] | None:
        """What is to go now. None when the database is away, or took them for us and could not say so."""
        return await self._ask(running, lambda conn: self._taken(conn, most))

    async def _taken(self, conn: Connection, most: int) -> list[Claimed]:
        claimed = await outgoing.claim(conn, most, self._sender.domain, self._settings.instance)
        claimed = await digests.as_chosen(conn, claimed)
        if self._settings.sms_gateway_url:
            beside = [one.about for one in claimed if one.channel == EMAIL and one.phone is not None]
            if beside:
                await text_store.owe(conn, beside)
        known = {one.id: bounces.digests(self._key, one.address) for one in claimed if one.channel in BOUNCING}
        if known:
            bad = await bounce_store.among(conn, [digest for each in known.values() for digest in each])
            if bad:
                claimed = [replace(one, bounced=not bad.isdisjoint(known.get(one.id, ()))) for one in claimed]
        return [one for one in claimed if not await self._set_aside(conn, one)]

    async def _ask(self, running: Running, work: Callable[[Connection], Awaitable[T]]) -> T | None:
        """What the database answers, in one transaction; none, a second later, when it is away or its answer is."""
        try:
            return await running.database.run(work, "worker")
        except Exception as error:
            if not (is_away(error) or isinstance(error, WAITED_OUT)):
                raise
            log.warning("waiting_for_database", worker="sender", error=type(error).__name__)
            await running.pause(AWAY_S)
            return None

    def _is_slow(self) -> bool:
        return time.monotonic() - self._put_back_at < SLOW_S

    async def _send(self, running: Running, channel: Channel, notice: Claimed) -> None:
        followed = trail.trail(notice.correlation_id, notice.event_id, notice.traceparent)
        with following(followed), tracing.span(f"send {notice.template}", "client"):
            pause_s = await self._turn(notice)
            if pause_s is not None:
                await self._note(lambda: self._put_back.submit((notice, pause_s)))
                return
            if notice.may_have_gone:  # the declared window; the same Message-ID tells the two apart from two mails
                log.warning("mail_may_come_twice", **_about(notice))
            try:
                await self._deliver(channel, notice)
            except Never as no:
                never = functools.partial(self._never, notice=notice, no=no)
                await self._note(lambda: running.database.run(never, "worker"))
                log.warning("notice_failed", **_about(notice), reason=no.reason)
            except Later as no:
                if no.of_domain:
                    self._domains.refused(_far_side(notice))
                await self._later(running, notice, no.reason, no.wait_s)
            except Exception as error:  # a fault of ours: a mended version sends it
                log.error("letter_not_written", **_about(notice), exc_info=error)
                await self._later(running, notice, "not_written")
            else:
                self._domains.taken(_far_side(notice))
                await self._note(lambda: self._sent.submit((notice, trail.here())))

    async def _turn(self, notice: Claimed) -> float | None:
        """None when it is this notice's turn; `_deliver` gives it back. Else the seconds to let go of it for."""
        domain, by = _far_side(notice), asyncio.get_running_loop().time() + TURN_S
        pause_s = await self._domains.enter(domain)
        if pause_s > 0:
            return pause_s
        try:
            if self._turns.locked():
                async with asyncio.timeout_at(by):
                    await self._turns.acquire()
            else:
                await self._turns.acquire()
        except TimeoutError:
            self._domains.leave(domain)
            self._put_back_at = time.monotonic()
            return 0.0  # another replica may have a connection for it
        return None

    async def _set_aside(self, conn: Connection, notice: Claimed) -> bool:
        """Whether the notice is not sent now, or not at all, by what its person has chosen; it is noted then.

        In the transaction that takes it in hand: if a sender dies in between, nobody knows that nothing was tried.
        """
        try:
            decided = decision(notice, self._settings)
        except Exception as error:  # a fault of ours in this one, which must not hold up all others
            log.error("notice_not_decided", **_about(notice), exc_info=error)
            return False
        match decided:
            case Hold(until, reason):
                await holding.hold(conn, notice, until, reason)
            case Suppress(reason):
                await holding.suppress(conn, notice, reason)
            case _:
                return False
        with following(trail.trail(notice.correlation_id, notice.event_id, notice.traceparent)):
            log.info("notice_set_aside", **_about(notice), reason=reason)
        return True

    async def _deliver(self, channel: Channel, notice: Claimed) -> None:
        try:
            await channel.deliver(self._letter(notice))
        finally:
            self._turns.release()  # before it is noted: meanwhile the next one goes
            self._domains.leave(_far_side(notice))

    def _letter(self, notice: Claimed) -> Letter:
        """The words of the notice. Raises Never for an offer that cannot be answered any more, or not at all."""
        if notice.late:
            raise Never("too_late")
        if notice.channel == SMS:
            return texts.letter(self._templates, notice, self._settings.public_url)
        links = None
        if notice.sealed is not None:
            links = offers.opened(self._key, self._settings.public_url, notice.sealed)
        if notice.template == DIGEST:
            return digests.letter(self._templates, notice, self._stopping_link(notice), self._sender)
        if notice.template == PARTNER_DIGEST:
            public_url = self._settings.public_url
            return offices.letter(self._templates, notice, public_url, self._stopping_link(notice))
        letter = letters.letter(self._templates, reminders.as_it_is(notice), links, self._stopping_link(notice))
        if notice.sequence is not None:
            letter = replace(letter, appointment=appointments.appointment(notice, letter, self._sender))
        return letter

    def _stopping_link(self, notice: Claimed) -> str | None:
        """Where such mails are stopped; none for what nobody may miss."""
        found = notice.facts["categories"] if notice.template == DIGEST else [KINDS[notice.template].category]
        categories = in_order(found)
        if set(categories) & set(TRANSACTIONAL):
            return None
        link = Link(notice.person, categories, notice.sending_since + unsubscribe.LASTS)
        return unsubscribe.address(self._settings, link)

    async def _never(self, conn: Connection, notice: Claimed, no: Never) -> None:
        """Note that it is not sent, and what the refusal says of its address."""
        await bounce_store.hold(conn, notice.learner_id)  # before the notice, as whoever forgets a person takes them
        if await _failed(conn, notice, no.reason) and no.status is not None:
            await bounces.note(conn, notice, no.status, self._key)

    async def _later(self, running: Running, notice: Claimed, reason: str, wait_s: float = 0.0) -> None:
        pause_s = max(delay_s(notice.attempt), wait_s)
        hours = self._settings.give_up_hours

        async def put_off(conn: Connection) -> None:
            if not await outgoing.defer(conn, notice, reason, pause_s, hours):
                await _failed(conn, notice, "gave_up")

        await self._note(lambda: running.database.run(put_off, "worker"))
        log.info("notice_deferred", **_about(notice), reason=reason, delay_ms=round(pause_s * 1000))

    async def _note(self, work: Callable[[], Awaitable[None]]) -> None:
        """Write down what became of a notice. Tried for long: what is sent and not noted is sent again."""
        try:
            async with asyncio.timeout(NOTING_S):
                while True:
                    try:
                        return await work()
                    except Exception as error:
                        if not (is_away(error) or isinstance(error, WAITED_OUT)):
                            raise
                    await asyncio.sleep(AWAY_S)
        except TimeoutError:
            log.error("notice_not_noted", reason="database_away")


class Ahead:
    """How many letters to have in hand."""

    def __init__(self, connections: int) -> None:
        self._least, self._limit = connections * AHEAD, connections * MOST_AHEAD
        self._gone, self._since = 0, time.monotonic()
        self.most = self._least

    def gone(self, count: int) -> None:
        """So many have gone since this was told the last time."""
        self._gone += count
        past_s = time.monotonic() - self._since
        if past_s >= AHEAD_S:
            self.most = max(self._least, min(round(self._gone / past_s * AHEAD_S), self._limit))
            self._gone, self._since = 0, time.monotonic()


def decision(notice: Claimed, settings: NotifierSettings) -> Decision:
    """What becomes of a notice in hand."""
    if notice.may_have_gone and notice.template in ONCE:
        return Suppress("may_have_gone")
    if notice.channel == SMS and not (settings.sms_gateway_url and notice.phone):
        return Suppress("no_phone" if settings.sms_gateway_url else "channel_off")
    now = notice.now or notice.sending_since
    quiet = settings.quiet
    if notice.says_when_quiet:
        quiet = None
        if notice.quiet_from is not None and notice.quiet_until is not None:
            quiet = notice.quiet_from, notice.quiet_until
    if notice.template == PARTNER_DIGEST:  # an office sleeps; held after a stop, it would come beside the next one
        quiet = None
    soonest = decisions.soonest(notice.template, notice.facts, notice.starts(), now)
    if notice.channel == SMS and notice.expires_at is not None:  # by then it must be answered
        soonest = min(soonest or notice.expires_at, notice.expires_at)
    due = decisions.Due(
        category=KINDS[notice.template].category if notice.template in KINDS else DIGEST,
        cadence=notice.cadence,
        quiet=quiet,
        concerned=notice.concerned,
        soonest=soonest,
        first=notice.attempt == 1,
        settles_at=settles_at(notice, settings.changes_settle_s),
        bounced=notice.bounced,
        sounds=notice.channel == SMS,
    )
    return decisions.decide(due, now)


def settles_at(notice: Claimed, settle_s: int) -> datetime | None:
    """Until when the letter about a change waits for further ones, from the first that it tells of."""
    if notice.template != CHANGED:
        return None
    since = datetime.fromisoformat(notice.facts["since"]) if "since" in notice.facts else notice.created_at
    return since + timedelta(seconds=settle_s)


async def _note_sent(conn: Connection, sent: Sequence[tuple[Claimed, Trail]]) -> list[None]:
    """Note and say that these were taken, all that are still in this sender's hands, in one transaction."""
    noted = await outgoing.mark_sent(conn, [notice for notice, _ in sent])
    said = [(NoticeSent.model_validate(_named(notice)), path) for notice, path in sent if notice.id in noted]
    await outbox.add_all(conn, [event for event, _ in said], [path for _, path in said])
    return [None] * len(sent)


async def _put_back(conn: Connection, letters: Sequence[tuple[Claimed, float]]) -> list[None]:
    await outgoing.put_back(conn, [notice for notice, _ in letters], [pause_s for _, pause_s in letters])
    return [None] * len(letters)


async def _failed(conn: Connection, notice: Claimed, reason: str) -> bool:
    failed = await outgoing.mark_failed(conn, notice, reason)
    if failed:
        await outbox.add(conn, NoticeFailed.model_validate({**_named(notice), "reason": reason}))
    return failed


def _far_side(notice: Claimed) -> str:
    """Who has turns of its own: the domain that a mail goes to, or the one gateway of all SMS."""
    return SMS if notice.channel == SMS else domains.of(notice.email)


def _about(notice: Claimed) -> dict[str, object]:
    """What a log line may say of a notice: neither to whom it goes nor its words."""
    return {"notice_id": notice.id, "template": notice.template, "attempt": notice.attempt}


def _named(notice: Claimed) -> dict[str, object]:
    return {
        "notice_id": notice.id,
        "learner_id": notice.learner_id,
        "template": notice.template,
        "channel": notice.channel,
        "about": notice.about,
    }


def delay_s(attempt: int) -> float:
    """How long to wait after this attempt (from 1): twice as long each time, up to 15 minutes, half to one and a half.

    The jitter keeps a thousand mails that met one outage from coming back together.
    """
    return min(FIRST_DELAY_S * 2.0 ** min(attempt - 1, 20), LONGEST_DELAY_S) * random.uniform(0.5, 1.5)  # noqa: S311
