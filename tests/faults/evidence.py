"""What a run has left behind, read once and as plain data: databases, topics, mails, logs, processes."""

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

Row = dict[str, Any]

SERVICES = ("catalogue", "enrolment", "notifier")
# Which group hears which topics; a name that ends in a star is the beginning of several.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "catalogue.partners": ("partners.*",),
    "catalogue.enrolments": ("enrolment.enrolments",),
    "catalogue.learners": ("enrolment.enrolments",),
    "enrolment.courses": ("catalogue.courses",),
    "enrolment.partners": ("catalogue.partners",),
    "enrolment.titles": ("catalogue.courses",),
    "enrolment.erasures": ("notifier.erasures",),
    "notifier.courses": ("catalogue.courses",),
    "notifier.partners": ("catalogue.partners",),
    "notifier.enrolments": ("enrolment.enrolments",),
    "notifier.contacts": ("enrolment.contacts",),
    "notifier.erasures": ("enrolment.erasures",),
    "notifier.webhooks": ("catalogue.courses", "enrolment.enrolments"),
}
_US = "(extract(epoch FROM {}) * 1000000)::bigint AS {}"
# When the inserting transaction was committed, in microseconds: an order that no code of ours has a hand in.
_COMMITTED = _US.format("pg_xact_commit_timestamp(xmin)", "committed_us")
_EVERY_SERVICE = {
    "outbox": "SELECT id, event_id::text, aggregate, epoch, seq, topic, key, headers::text, payload, subject, "
    "published_at IS NOT NULL AS published FROM outbox ORDER BY id",
    "inbox": f"SELECT consumer, event_id, {_COMMITTED} FROM inbox",
    "parked": 'SELECT consumer, topic, partition, "offset", event_id, type, reason, detail, state FROM parked',
    "idempotency": "SELECT route, key, status, body FROM idempotency",
}
_TABLES: Mapping[str, Mapping[str, str]] = {
    "catalogue": {
        "courses": "SELECT id::text, partner, code, version, content::text, withdrawn FROM courses",
        "offerings": "SELECT o.id::text, o.course_id::text, o.key, o.version, o.content::text, o.state, "
        "c.partner, c.code FROM offerings o JOIN courses c ON c.id = o.course_id",
        "partners": "SELECT slug, state FROM partners",
        "intake": "SELECT partner, way, what, code FROM intake",
    },
    "enrolment": {
        "offerings": "SELECT id::text, version, cancelled FROM offerings",
        "places": "SELECT offering_id::text, arena, wanted_capacity, capacity, taken, open, queued FROM places",
        "learners": "SELECT id::text, subject FROM learners",
        "enrolments": "SELECT id::text, offering_id::text, learner_id::text, state, choices, place, name, waiting_for, "
        "wait_for_earlier, group_name, on_lapse FROM enrolments ORDER BY queue_number",
        "changes": "SELECT c.id, c.enrolment_id::text, c.from_state, c.from_place, c.to_state, c.place, c.by_whom, "
        f"c.why, e.offering_id::text, e.learner_id::text, {_US.format('c.changed_at', 'changed_us')}, "
        f"{_COMMITTED.replace('xmin', 'c.xmin')} "
        "FROM enrolment_changes c JOIN enrolments e ON e.id = c.enrolment_id ORDER BY c.id",
        "offers": "SELECT id::text, offering_id::text, enrolment_id::text, place, outcome, "
        "encode(accept_digest, 'hex') AS accept, encode(decline_digest, 'hex') AS decline, "
        f"{_US.format('made_at', 'made_us')}, {_US.format('expires_at', 'expires_us')}, "
        f"{_US.format('ended_at', 'ended_us')}, {_US.format('clock_timestamp()', 'read_us')} "
        "FROM offers ORDER BY made_at, id",
    },
    "notifier": {
        "courses": "SELECT course_id::text, version FROM courses",
        "offerings": "SELECT offering_id::text, version, cancelled FROM offerings",
        "contacts": "SELECT learner_id::text, email, epoch, seq FROM contacts",
        "notices": "SELECT id::text, event_id, learner_id::text, about::text, template, state, attempts, resends, "
        "message_id, reason, sealed IS NOT NULL AS sealed FROM notices ORDER BY id",
        "enrolments": "SELECT enrolment_id::text, state, place FROM enrolments",
        "webhook_deliveries": "SELECT w.partner, d.event_id, d.state, d.attempts, d.reason, d.state = 'deferred' "
        "AND d.due_at > app_now() AS later FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id",
    },
}
_UNPUBLISHED = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
_SENDING = "SELECT count(*) FROM notices WHERE state = 'sending'"
# Those that are put off are tried again for three days: at rest means that none is to go now.
_TELLING = """
SELECT count(*) FROM webhook_deliveries
WHERE state IN ('pending', 'sending') OR (state = 'deferred' AND due_at <= app_now())
"""
CONNECTIONS = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE application_name ~ '^(catalogue|enrolment|notifier)/(web|together|consumer|relay|worker|desk)$' GROUP BY 1
"""


@dataclass(frozen=True)
class Record:
    """One record as it lies on a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass
class Evidence:
    """Everything that the checker judges. `tables`: `service.table` -> rows, with ids as text and times as numbers.

    `quiet`: what had to come to rest after the last heal -> after how many seconds it did, none if it never did.
    `before` and `after`: service -> what its process held at the start and at the end. `leaks`: where a word was found
    that no log, topic or metric may hold; `scanned`: how much was read for that. `audit`: what the operators' command
    found in each service.
    """

    history: list[Row] = field(default_factory=list)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    deliveries: list[Row] = field(default_factory=list)
    calls: list[Row] = field(default_factory=list)
    notifier_log: list[Row] = field(default_factory=list)
    quiet: dict[str, float | None] = field(default_factory=dict)
    before: dict[str, Row] = field(default_factory=dict)
    after: dict[str, Row] = field(default_factory=dict)
    scanned: dict[str, int] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    audit: list[Row] = field(default_factory=list)

    def rows(self, table: str) -> list[Row]:
        return self.tables.get(table, [])


async def tables(dsns: Mapping[str, str]) -> dict[str, list[Row]]:
    """Every row of every database, each database in one snapshot."""
    found: dict[str, list[Row]] = {}
    for service, dsn in dsns.items():
        conn = await asyncpg.connect(dsn)
        try:
            async with conn.transaction(isolation="repeatable_read", readonly=True):
                for name, statement in {**_EVERY_SERVICE, **_TABLES[service]}.items():
                    found[f"{service}.{name}"] = [dict(row) for row in await conn.fetch(statement)]
        finally:
            await conn.close()
    return found


async def partitions(bootstrap: str) -> list[TopicPartition]:
    """Every partition of every topic but Kafka's own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = await admin.describe_topics()
    finally:
        await admin.close()
    return [
        TopicPartition(topic["topic"], part["partition"])
        for topic in topics
        if not topic["topic"].startswith("__")
        for part in topic["partitions"]
    ]


async def records(bootstrap: str) -> list[Record]:
    """Every record of every topic but Kafka's own, each partition in its order."""
    places = await partitions(bootstrap)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    )
    await consumer.start()
    try:
        ends = {place: end for place, end in (await consumer.end_offsets(places)).items() if end}
        found: list[Record] = []
        if ends:
            consumer.assign(list(ends))
            await consumer.seek_to_beginning()
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                found += [Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers)) for r in batch]
    finally:
        await consumer.stop()
    return sorted(found, key=lambda one: (one.topic, one.partition, one.offset))


def hears(group: str, topic: str) -> bool:
    return any(topic == name or (name.endswith("*") and topic.startswith(name[:-1])) for name in GROUPS[group])


async def lag(bootstrap: str) -> int:
    """How many records the groups have not taken yet. Raises LookupError for a group that hears no topic."""
    places = await partitions(bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        await admin.start()
        ends = await consumer.end_offsets(places)
        left = 0
        for group in GROUPS:
            mine = [place for place in places if hears(group, place.topic)]
            if not mine:
                raise LookupError(f"there is no topic for {group}")
            done = await admin.list_consumer_group_offsets(group)
            left += sum(max(0, ends[one] - max(0, done[one].offset if one in done else 0)) for one in mine)
        return left
    finally:
        await admin.close()
        await consumer.stop()


async def waiting(dsns: Mapping[str, str], bootstrap: str) -> dict[str, int]:
    """What has not come to rest: rows to publish, records to take, mails in hand."""
    left = {"outbox": 0, "sending": 0, "webhooks": 0}
    for service, dsn in dsns.items():
        conn = await asyncpg.connect(dsn)
        try:
            left["outbox"] += await conn.fetchval(_UNPUBLISHED)
            if service == "notifier":
                left["sending"] = await conn.fetchval(_SENDING)
                left["webhooks"] = await conn.fetchval(_TELLING)
        finally:
            await conn.close()
    return {**left, "lag": await lag(bootstrap)}


async def rest(dsns: Mapping[str, str], bootstrap: str, healed: float, within_s: float) -> dict[str, float | None]:
    """Wait until nothing moves any more, at most `within_s` after `healed` (monotonic); how long each part took."""
    quiet: dict[str, float | None] = {}
    while True:
        try:
            left = await waiting(dsns, bootstrap)
        except (OSError, asyncpg.PostgresError, KafkaError, TimeoutError):  # a server may still be coming back
            left = {"outbox": 1, "lag": 1, "sending": 1, "webhooks": 1}
        after_s = round(time.monotonic() - healed, 1)
        for name, count in left.items():
            quiet[name] = None if count else (quiet.get(name) or after_s)
        if not any(left.values()) or after_s > within_s:
            return quiet
        await asyncio.sleep(0.5)


async def processes(pids: Mapping[str, int], admin_dsn: str) -> dict[str, Row]:
    """What each service's process holds: files, clients, threads, memory in kB, connections to PostgreSQL by pool."""
    conn = await asyncpg.connect(admin_dsn)
    try:
        connections = {row[0]: row[1] for row in await conn.fetch(CONNECTIONS)}
    finally:
        await conn.close()
    found: dict[str, Row] = {}
    for service, pid in pids.items():
        process = psutil.Process(pid)
        pools = {name.partition("/")[2]: n for name, n in connections.items() if name.startswith(f"{service}/")}
        sockets = process.net_connections(kind="tcp")
        doors = {one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN}
        clients = sum(one.laddr.port in doors and one.status != psutil.CONN_LISTEN for one in sockets)
        found[service] = {
            "pid": pid,
            # Pools grow and shrink, and clients come and go: these are counted for themselves.
            "files": process.num_fds() - sum(pools.values()) - clients,
            "clients": clients,
            "threads": process.num_threads(),
            "rss_kb": process.memory_info().rss // 1024,
            "pools": pools,
        }
    return found


def leaks(words: Sequence[str], places: Mapping[str, bytes | bytearray]) -> list[str]:
    """`place: what stands around the word` for each place that holds one of the words."""
    found = []
    for place, text in places.items():
        for word in words:
            for hit in list(re.finditer(re.escape(word.encode()), text))[:3]:
                around = text[max(0, hit.start() - 80) : hit.end() + 80]
                found.append(f"{place}: …{around.decode(errors='replace')}…")
    return found


def lines(path: Path) -> list[Row]:
    """A log's JSON lines; what is not JSON (a traceback of the interpreter, a line cut by kill -9) is left out."""
    found: list[Row] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        if text.startswith("{"):
            try:
                found.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return found
