"""What has been released and must be readable for ever: one file a release, written once and never changed."""

import json
from pathlib import Path
from typing import Any

from contracts.asyncapi import event_schema
from contracts.envelope import Event
from contracts.registry import EVENTS

HERE = Path(__file__).parent / "released"


def described(event: type[Event]) -> dict[str, Any]:
    """All that other programs hold on to: where an event lies, in which order it stays, and its data's schema."""
    spec = event.spec
    return {
        "topic": spec.topic,
        "key": spec.key,
        "aggregate": spec.aggregate,
        "subject": spec.subject,
        "schema": event_schema(event),
    }


def releases(folder: Path = HERE) -> dict[str, dict[str, Any]]:
    """Each release's new and changed events, {version: {type: described}}, oldest release first."""
    paths = sorted(folder.glob("*.json"), key=lambda path: _order(path.stem))
    return {path.stem: json.loads(path.read_text("utf-8")) for path in paths}


def release(version: str, folder: Path = HERE) -> Path:
    """Write down what is new or changed since the last release. Raises FileExistsError or ValueError, saying why."""
    _order(version)
    path = folder / f"{version}.json"
    if path.exists():
        raise FileExistsError(f"{version} is released, and a release is never written again: take the next number")
    last: dict[str, Any] = {}
    for events in releases(folder).values():
        last.update(events)
    new = {event.spec.type: described(event) for event in EVENTS if last.get(event.spec.type) != described(event)}
    if not new:
        raise ValueError(f"no event has changed since the last release: {version} needs no file")
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(new, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    return path


def _order(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{version} is not a version: write it as 1.2.3")
    return tuple(int(part) for part in parts)
