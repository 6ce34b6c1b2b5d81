"""Judges the topics: all that was said is there in order (V3), nothing else is (V4), each had one effect (V5)."""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.faults import model, states
from tests.faults.evidence import GROUPS, SERVICES, Row, hears
from tests.faults.model import World, digest, service_of
from tests.faults.verdict import Looked


def no_lost_event(world: World) -> Looked:
    """V3: what was said is on its topic, each aggregate first seen in its order and without a gap."""
    there = {(service_of(one.record.topic), one.aggregate, one.epoch, one.seq) for one in world.events}
    copies = {(one.topic, _origin(one.headers)) for one in world.ours if one.topic.endswith(".parked")}
    found = Looked({"said": 0, "aggregates": len(world.firsts)})
    found.also["repeats"] = len(world.events) - len(world.once)
    newest: dict[str, int] = {}
    for (service, *_), row in world.outbox.items():
        newest[service] = max(newest.get(service, 0), row.get("id", 0) if row["published"] else 0)
    for (service, aggregate, epoch, seq), row in world.outbox.items():
        found.seen["said"] += 1
        if row["headers"]:
            told = tuple((name, base64.b64decode(value)) for name, value in json.loads(row["headers"]))
            lost = (row["topic"], _origin(told)) not in copies
        else:
            lost = (service, aggregate, epoch, seq) not in there
        if lost:
            passed_over = row.get("id", 0) < newest[service]  # else it may only have come too late
            not_sent = "passed over" if passed_over else "not published"
            words = "marked as published" if row["published"] else not_sent
            around: list[Row] = []
            if not found.wrong:  # only the first is shown
                around = [r for (s, a, _, _), r in world.outbox.items() if (s, a) == (service, aggregate)]
            found.wrong.append((f"{service} {aggregate} {seq} is {words} and not on {row['topic']}", around))
    for aggregate, events in world.firsts.items():
        epochs: dict[int, list[int]] = defaultdict(list)
        for one in events:
            epochs[one.epoch].append(one.seq)
        for seqs in epochs.values():
            if seqs != list(range(1, len(seqs) + 1)):
                lines = [f"{o.record.partition}:{o.record.offset} seq {o.seq} {o.kind} {o.id}" for o in events]
                at = next(n for n, seq in enumerate(seqs) if seq != n + 1)
                words = f"{aggregate} is first seen out of order or with a gap"
                found.wrong.append((words, lines[max(0, at - 3) : at + 4]))
    return found


def _origin(headers: Iterable[tuple[str, bytes | None]]) -> tuple[tuple[str, bytes | None], ...]:
    return tuple((name, value) for name, value in headers if name in ("topic", "partition", "offset", "reason"))


def no_counterfactual(world: World) -> Looked:
    """V4: nothing is on our topics that we have not said, and nothing on a partner's that it has not sent."""
    found = Looked({"records of ours": 0, "records of partners": 0})
    copies: dict[str, set[str]] = defaultdict(set)
    for row in world.outbox.values():
        copies[row["topic"]].add(digest(row["payload"]))
    for record in world.ours:
        found.seen["records of ours"] += 1
        event = model.said(record) if not record.topic.endswith(".parked") else None
        if event is None:
            true = record.topic.endswith(".parked") and digest(record.value) in copies[record.topic]
        else:
            row = world.outbox.get((service_of(record.topic), event.aggregate, event.epoch, event.seq), {})
            true = (row.get("topic"), row.get("payload"), row.get("key")) == (record.topic, record.value, record.key)
        if not true:
            found.wrong.append((f"{record.topic} holds what nobody has said", [vars(record)]))
    sent = {lines[0]["digest"] for _, lines in world.of("partner", "noise")}
    for record in world.theirs:
        found.seen["records of partners"] += 1
        if digest(record.value) not in sent:
            found.wrong.append((f"{record.topic} holds what its partner has not sent", [vars(record)]))
    return found


def one_effect(world: World) -> Looked:
    """V5: each event was heard once by each group that hears it, and all states are what the topics come to."""
    heard = Counter((r["consumer"], r["event_id"]) for s in SERVICES for r in world.rows(f"{s}.inbox"))
    kept = {
        (r["consumer"], r["topic"], r["partition"], r["offset"]): r for s in SERVICES for r in world.rows(f"{s}.parked")
    }
    found = Looked({"heard": len(heard), "states compared": 0, "notices": 0, "refused": 0})
    for (group, event), count in heard.items():
        if count > 1:
            found.wrong.append((f"{group} has heard {event} {count} times", []))
    for record in world.evidence.records:
        for group in GROUPS:
            if not hears(group, record.topic):
                continue
            parked = kept.get((group, record.topic, record.partition, record.offset))
            name = _event_id(record.topic, record.value)
            if parked is None and (group, name) not in heard:
                found.wrong.append((f"{group} has never heard {name}", [vars(record)]))
            elif parked is not None and not record.topic.startswith("partners."):
                found.wrong.append((f"{group} has parked an event of ours", [parked]))
    states.compare(world, found)
    return found


def _event_id(topic: str, value: bytes | None) -> str | None:
    try:
        name = str(json.loads(value or b"")["id"])
    except (ValueError, KeyError, TypeError):
        return None
    return f"{topic.split('.')[1]}/{name}" if topic.startswith("partners.") else name
