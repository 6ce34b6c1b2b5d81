"""A small service that only listens, as a process of its own: `python -m tests.listener serve`.

What it hears it writes to the table `done`. It is slow, and it hangs, as its environment says.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.envelope import Event
from contracts.registry import BY_TYPE
from kit import consumer
from kit.commandline import main
from kit.consumer import Consumer
from kit.database import Connection
from kit.listeners import Listeners, Received
from kit.service import Service
from kit.settings import Settings, read

TABLE = "CREATE TABLE done (place serial, thing text, number int)"


def event_of(topic: str) -> type[Event]:
    """An event on this topic, which nobody else has: `ThingHappened`, of one thing."""

    class ThingHappened(Event, topic=topic, aggregate="thing", key="thing"):
        thing: str
        number: int

    ThingHappened.spec = replace(ThingHappened.spec, type=f"no.kursnett.{topic.partition('.')[0]}.ThingHappened.v1")
    BY_TYPE[ThingHappened.spec.type] = ThingHappened
    return ThingHappened


async def write(conn: Connection, received: Sequence[Received]) -> None:
    for one in received:
        event: Any = one.event
        await conn.execute("INSERT INTO done (thing, number) VALUES ($1, $2)", event.thing, event.number)


async def slowly(conn: Connection, received: Sequence[Received]) -> None:
    for one in received:
        await asyncio.sleep(float(os.environ.get("LISTENER_SLOW_S", "0")))
        await write(conn, [one])


def hangs() -> bool:
    return Path(os.environ["LISTENER_HANGS"]).exists()


async def never(conn: Connection, received: Sequence[Received]) -> None:
    """Hangs, deaf to every time limit, as long as the file is there."""
    while hangs():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue
    await write(conn, received)


def build() -> Service:
    topic = os.environ["LISTENER_TOPIC"]
    listeners = Listeners()
    listeners.on(event_of(topic))(never if "LISTENER_HANGS" in os.environ else slowly)
    return Service(
        name=topic.partition(".")[0],
        settings=read(Settings),
        migrations=Path(os.environ["DUMMY_MIGRATIONS"]),
        consumers=[Consumer("things", listeners, topics=(topic,))],
    )


if __name__ == "__main__":
    consumer.STUCK_S = float(os.environ.get("LISTENER_STUCK_S", "60"))
    consumer.WATCH_S = float(os.environ.get("LISTENER_WATCH_S", "5"))
    main("listener", build)
