"""Judges the end of a run: all at rest (V14), nothing held on to (V16), no name where all can read it (V17)."""

from tests.faults.evidence import SERVICES
from tests.faults.model import World
from tests.faults.verdict import Looked, outcomes

QUIET_S = 60.0
SENT_QUIET_S = 75.0  # a mail whose sender was killed is taken in hand again after 60 s, and must go out first
POOLS = {"web": 8, "together": 4, "consumer": 3, "relay": 2, "worker": 2, "desk": 3}
SLACK = 5
RSS_KB = 64 * 1024
CLIENTS = 60  # two connections of each client and partner, and some that are just being closed


def comes_to_rest(world: World) -> Looked:
    """V14: soon after the last heal everything is published, heard and out of hand."""
    quiet = world.evidence.quiet
    found = Looked({"things looked at": len(quiet), "faults": len(outcomes(world.evidence.history, "fault"))})
    for name in ("outbox", "lag", "sending", "webhooks"):
        within_s = QUIET_S if name in ("outbox", "lag") else SENT_QUIET_S
        after_s = quiet.get(name)
        found.also[f"s to {name} at rest"] = after_s
        if after_s is None or after_s > within_s:
            found.wrong.append((f"{name} was not at rest {within_s:.0f} s after the last heal", [quiet]))
    return found


def no_leak(world: World) -> Looked:
    """V16: a service holds at the end what it held at the start."""
    before, after = world.evidence.before, world.evidence.after
    found = Looked({"services": len(after)})
    for service in SERVICES:
        start, end = before.get(service), after.get(service)
        if start is None or end is None:
            found.wrong.append((f"{service} was not looked at", [start, end]))
            continue
        found.also[f"files of {service}"] = f"{start['files']} to {end['files']}"
        for name, most in (
            ("files", start["files"] + SLACK),
            ("clients", CLIENTS),
            ("threads", start["threads"] + SLACK),
            ("rss_kb", start["rss_kb"] + RSS_KB),
        ):
            if end[name] > most:
                found.wrong.append((f"{service} holds {end[name]} {name}, and had {start[name]}", [start, end]))
        for pool, size in end["pools"].items():
            if size > POOLS[pool]:
                found.wrong.append((f"{service} has {size} connections in the pool {pool}", [end]))
    return found


def no_personal_data(world: World) -> Looked:
    """V17: no name and no address that was typed is in a log, a topic, a metric or a reason."""
    found = Looked({f"bytes of {what}": size for what, size in world.evidence.scanned.items()})
    found.seen["sorts of place"] = len(world.evidence.scanned)
    found.wrong += [("a person's data lies where all can read it", [leak]) for leak in world.evidence.leaks]
    return found


def audited(world: World) -> Looked:
    """The operators' `audit`, which is other code than ours, finds nothing either."""
    rows = world.evidence.audit
    found = Looked({"rules": len(rows), "things looked at": sum(row["looked"] for row in rows)})
    for row in rows:
        if row["wrong"]:
            found.wrong.append((f"{row['service']}: {row['words']}: {row['wrong']} are not so", [row]))
    return found
