"""Which changes of an offering are told to those who wait for it or sit there, and which are nobody's business."""

from collections.abc import Collection, Mapping
from typing import Any

from contracts.catalogue import OfferingState
from services.notifier.store.changes import Run
from services.notifier.store.known import open_arenas


def facts(before: Run, after: OfferingState) -> dict[str, Any] | None:
    """What a letter needs to say before and after; none when neither time, session, room nor an open place is other.

    Capacity and words alone tell nobody: a seat stays what it was.
    """
    now = {
        "starts_at": after.starts_at.isoformat(),
        "ends_at": after.ends_at.isoformat(),
        "sessions": [meeting.model_dump(mode="json") for meeting in after.sessions],
    }
    was = {
        "starts_at": before.starts_at.isoformat(),
        "ends_at": before.ends_at.isoformat(),
        "sessions": now["sessions"] if before.sessions is None else before.sessions,
    }
    at_another_time = (before.starts_at, before.ends_at) != (after.starts_at, after.ends_at)
    closed = sorted(set(before.arenas or ()) - set(open_arenas(after)))
    if not (at_another_time or was["sessions"] != now["sessions"] or closed):
        return None
    return {"was": was, "now": now, "closed": closed}


def merged(
    earlier: Mapping[str, Any], later: Mapping[str, Any], open_now: Collection[str], *, heard: bool = False
) -> dict[str, Any] | None:
    """What one letter says of two changes, the first of which has no letter; none when all is as it was.

    `heard`: another mail may have told of the first, so that its meetings may be entered in a calendar, and the most
    that may be are kept as `entered`.
    """
    closed = sorted((set(earlier["closed"]) | set(later["closed"])) - set(open_now))
    if _same(earlier["was"], later["now"]) and not closed:
        return None
    told = {"was": earlier["was"], "now": later["now"], "closed": closed}
    before = [one.get("entered", one["was"]["sessions"]) for one in ((earlier, later) if heard else (earlier,))]
    most = max(before, key=len)
    return told if most == told["was"]["sessions"] else {**told, "entered": most}


def _same(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return all(was[name] == now[name] for name in ("starts_at", "ends_at", "sessions"))
