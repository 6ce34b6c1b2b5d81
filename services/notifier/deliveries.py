"""Calls webhooks: takes deliveries in hand, fairly and in order, and notes what came of all that ended, in one turn."""

import asyncio
import functools
import random
from collections.abc import Sequence

import asyncpg

from kit import logs, tracing
from kit.database import Connection, Unknown, is_away
from kit.running import Running
from kit.sealing import Unsealable, unseal
from kit.trail import following, trail
from services.notifier.channels.webhook import Answer, Call, Webhook
from services.notifier.settings import NotifierSettings
from services.notifier.store import deliveries, webhooks
from services.notifier.store.deliveries import Claimed, Health, Outcome

log = logs.get(__name__)

# The answer to COMMIT was lost, or somebody holds a lock for long: asked again, it will be known or done.
WAITED_OUT = (Unknown, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)

MOST = 100  # in hand at once: each is a connection that waits, mostly
IDLE_S = 0.2  # how soon a new delivery is seen
AWAY_S = 1.0
STOP_S = 13.0  # calls in hand at a stop; the process has 18 s
FORGET_EVERY_S = 60.0
# After the first failure, the second …: two within a minute, then ever more seldom, for three days in all.
PAUSES_S = (5.0, 15.0, 60.0, 300.0, 1200.0, 3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0)


class Deliverer:
    """One worker of a service; many services may work beside each other, each delivery is in one's hands."""

    def __init__(self, settings: NotifierSettings, channel: Webhook) -> None:
        self._key = settings.contact_private_key.get_secret_value()
        self._channel = channel
        self._opened = functools.lru_cache(maxsize=1000)(self._open)

    async def run(self, running: Running) -> None:
        """Work until the process is asked to stop; calls in hand are finished and noted."""
        in_hand: set[asyncio.Task[Outcome]] = set()
        ended: list[Outcome] = []
        try:
            while not running.stopping.is_set():
                claimed = await self._turn(running, ended, MOST - len(in_hand))
                in_hand |= {asyncio.create_task(self._call(one)) for one in claimed}
                if in_hand:
                    await asyncio.wait(in_hand, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await running.pause(IDLE_S)
                ended += _take_ended(in_hand)
        finally:
            if in_hand:
                await asyncio.wait(in_hand, timeout=STOP_S)
                ended += _take_ended(in_hand)
            for task in in_hand:
                task.cancel()
            if ended:
                await self._turn(running, ended, 0)

    async def _turn(self, running: Running, ended: list[Outcome], most: int) -> list[Claimed]:
        """Note what has ended and take more in hand, in one transaction. None, a second later, when that cannot be."""

        async def work(conn: Connection) -> list[Claimed]:
            if ended:
                await self._note(conn, ended)
            return await deliveries.claim(conn, most) if most else []

        try:
            claimed = await running.database.run(work, "worker")
        except Exception as error:
            if not (is_away(error) or isinstance(error, WAITED_OUT)):
                raise
            log.warning("waiting_for_database", worker="webhooks", error=type(error).__name__)
            await running.pause(AWAY_S)
            return []
        ended.clear()
        return claimed

    async def _note(self, conn: Connection, ended: Sequence[Outcome]) -> None:
        for row in await deliveries.note(conn, ended):
            if row["state"] == "failed":
                log.warning("webhook_delivery_failed", delivery_id=row["id"], reason=row["reason"])
        found = health(ended)
        if not found:
            return
        told = await deliveries.note_health(conn, found)
        back = [row["id"] for row in told if row["back"]]
        off = [row["id"] for row in told if row["turned"] and row["state"] == "off"]
        if back:
            await deliveries.hurry(conn, back)
        if off:
            await deliveries.close_open(conn, off)
        for webhook_id in off:
            log.warning("webhook_turned_off", webhook_id=webhook_id, reason="gone")

    async def _call(self, one: Claimed) -> Outcome:
        followed = trail(one.correlation_id, one.event_id, one.traceparent)
        with following(followed), tracing.span("call webhook", "client"):
            about = {"delivery_id": one.id, "webhook_id": one.webhook_id, "attempt": one.attempt}
            try:
                keys = [self._opened(sealed) for sealed in one.secrets]
            except Unsealable:
                log.error("webhook_secret_not_opened", **about)
                answer = Answer(reason="secret_not_opened")
            else:
                call = Call(one.url, f"{one.event_id}_{one.webhook_id}", one.body, keys)
                try:
                    answer = await self._channel.deliver(call)
                except Exception as error:  # a fault of ours, which must cost no other webhook its worker
                    log.error("webhook_call_failed", **about, exc_info=error)
                    answer = Answer(reason="not_called", reached=False)
            if answer.reason:
                log.info("webhook_not_taken", **about, reason=answer.reason, status=answer.status)
        return Outcome(one, answer, max(delay_s(one.failures + 1), answer.wait_s))

    def _open(self, sealed: str) -> str:
        return str(unseal(self._key, sealed)["secret"])


def _take_ended(in_hand: set[asyncio.Task[Outcome]]) -> list[Outcome]:
    ended = {task for task in in_hand if task.done()}
    in_hand -= ended
    return [task.result() for task in ended]


def health(ended: Sequence[Outcome]) -> list[Health]:
    """What these say of their webhooks, in the order of ids; nothing of one that was well and is."""
    of_each: dict[str, list[Outcome]] = {}
    for one in ended:
        of_each.setdefault(str(one.claimed.webhook_id), []).append(one)
    found = []
    for _, each in sorted(of_each.items()):
        answers = [one.answer for one in each]
        first = each[0].claimed
        reached = any(answer.reached for answer in answers)
        wait_s = max(answer.wait_s for answer in answers)
        gone = any(answer.gone for answer in answers)
        woken = any(one.claimed.off and one.answer.reason is None for one in each)
        if not reached or wait_s or gone or woken or any(one.claimed.failing for one in each):
            jitter = random.uniform(0.5, 1.5)  # noqa: S311
            found.append(Health(first.webhook_id, reached, wait_s, gone, woken, jitter))
    return found


def delay_s(failures: int) -> float:
    """How long to wait after so many failures (from 1), half to one and a half of it: many wait for the same server."""
    return PAUSES_S[min(failures, len(PAUSES_S)) - 1] * random.uniform(0.5, 1.5)  # noqa: S311


async def forget(running: Running) -> None:
    """A worker: delete what is older than the log is kept, some rows at a time."""
    while True:
        async with running.database.reading("worker") as conn:
            gone = await webhooks.forget(conn)
            if gone < webhooks.FORGET_ROWS:
                await webhooks.forget_webhooks(conn)
        if not await running.pause(FORGET_EVERY_S if gone < webhooks.FORGET_ROWS else IDLE_S):
            return
