"""No change breaks a reader: each event is held against every release that had it, in both directions."""

import copy
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsoncompat
import pytest

from contracts import golden
from contracts.asyncapi import event_schema
from contracts.envelope import Event
from contracts.registry import BY_TYPE, EVENTS
from contracts.released import described, releases

Schema = dict[str, Any]
RELEASED = [(version, type_, was) for version, events in releases().items() for type_, was in events.items()]
each_event = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.spec.type)


def old_reader_reads_new(old: Schema, new: Schema) -> bool:
    """Readers pass over fields that they do not know: both schemas are open."""
    return bool(jsoncompat.check_compat(_with_others(old, True), _with_others(new, True), "serializer"))


def new_reader_reads_old(old: Schema, new: Schema) -> bool:
    """No old field may have become unknown: both schemas are closed, or a removed field would go unseen."""
    return bool(jsoncompat.check_compat(_with_others(old, False), _with_others(new, False), "deserializer"))


def compatible(old: Schema, new: Schema) -> bool:
    return old_reader_reads_new(old, new) and new_reader_reads_old(old, new)


def redefaulted(old: Schema, new: Schema) -> list[str]:
    """Fields with another default than before: an event that leaves them out would now say something else."""
    before, after = old["properties"], new["properties"]
    return [name for name in before if name in after and before[name].get("default") != after[name].get("default")]


def _with_others(schema: Schema, allowed: bool) -> str:
    def set_in(part: Any) -> Any:
        if isinstance(part, list):
            return [set_in(item) for item in part]
        if not isinstance(part, dict):
            return part
        found = {name: set_in(value) for name, value in part.items()}
        if found.get("type") == "object" and isinstance(found.get("properties"), dict):
            found.setdefault("additionalProperties", allowed)
        return found

    return json.dumps(set_in(schema))


@pytest.mark.parametrize(("version", "type_", "was"), RELEASED, ids=[f"{r[0]}-{r[1]}" for r in RELEASED])
def test_a_released_event_is_read_both_ways(version: str, type_: str, was: dict[str, Any]) -> None:
    assert type_ in BY_TYPE, f"{type_} was released in {version} and must stay readable"
    now = described(BY_TYPE[type_])
    for name in ("topic", "key", "aggregate", "subject"):
        assert now[name] == was[name], f"the {name} of a released event keeps its order, and stays"
    assert redefaulted(was["schema"], now["schema"]) == [], "another default changes what old events say"
    assert old_reader_reads_new(was["schema"], now["schema"]), f"readers of {version} would not read what we write"
    assert new_reader_reads_old(was["schema"], now["schema"]), f"we would not read what {version} wrote"


def test_there_is_a_release_to_be_held_against() -> None:
    assert RELEASED


# Red controls: each of these is done to every event, and the check above must see it.


def add_required(schema: Schema) -> None:
    schema["properties"]["seats_wanted"] = {"type": "integer"}
    schema["required"].append("seats_wanted")


def remove_field(schema: Schema) -> None:
    del schema["properties"][schema["required"].pop()]


def remove_optional(schema: Schema) -> None:
    for name in set(schema["properties"]) - set(schema["required"]):
        del schema["properties"][name]


def change_type(schema: Schema) -> None:
    schema["properties"][schema["required"][0]] = {"type": "boolean"}


def rename(schema: Schema) -> None:
    schema["properties"]["renamed"] = schema["properties"].pop(schema["required"].pop())
    schema["required"].append("renamed")


def demand_optional(schema: Schema) -> None:
    schema["required"] += sorted(set(schema["properties"]) - set(schema["required"]))


BREAKING: tuple[Callable[[Schema], None], ...] = (
    add_required,
    remove_field,
    remove_optional,
    change_type,
    rename,
    demand_optional,
)


@each_event
@pytest.mark.parametrize("change", BREAKING, ids=lambda change: change.__name__)
def test_a_breaking_change_is_seen(event: type[Event], change: Callable[[Schema], None]) -> None:
    old = event_schema(event)
    new = copy.deepcopy(old)
    change(new)
    assert new == old or not compatible(old, new)  # equal where the event has no optional field to break


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: schema["properties"]["language"]["enum"].append("sv"),
        lambda schema: schema["properties"]["language"]["enum"].remove("sme"),
        lambda schema: schema["properties"]["title"]["additionalProperties"].update(maxLength=100),
        lambda schema: schema["properties"]["title"]["additionalProperties"].update(maxLength=300),
        lambda schema: schema["properties"]["subjects"].update(maxItems=5),
        lambda schema: schema["properties"]["studiepoeng"].update(anyOf=[{"type": "number"}, {"type": "null"}]),
    ],
    ids=["new value", "value gone", "shorter", "longer", "fewer", "retyped"],
)
def test_a_changed_limit_is_seen(change: Callable[[Schema], None]) -> None:
    old = event_schema(BY_TYPE["no.kursnett.partner.CoursePublished.v1"])
    new = copy.deepcopy(old)
    change(new)
    assert not compatible(old, new)


def test_a_change_inside_a_part_is_seen() -> None:
    old = event_schema(BY_TYPE["no.kursnett.catalogue.OfferingScheduled.v1"])
    new = copy.deepcopy(old)
    new["$defs"]["Session"]["required"].append("room")
    assert not compatible(old, new)


def test_a_changed_default_is_seen() -> None:
    old = event_schema(BY_TYPE["no.kursnett.partner.CoursePublished.v1"])
    new = copy.deepcopy(old)
    new["properties"]["price_ore"]["default"] = 100
    assert compatible(old, new)  # which is why defaults are compared by themselves
    assert redefaulted(old, new) == ["price_ore"]


@each_event
def test_adding_an_optional_field_is_allowed(event: type[Event]) -> None:
    old = event_schema(event)
    new = copy.deepcopy(old)
    new["properties"]["added_later"] = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert compatible(old, new)


# What has landed stays as it landed.


def rewritten(root: Path) -> list[str]:
    """Released files that a release tag has with other content; none in a folder that is no clone, and has no tags."""
    found = []
    for tag in _git(root, "tag", "--list", "v*").split():
        for path in _git(root, "ls-tree", "-r", "--name-only", tag, "contracts").splitlines():
            forever = path.startswith("contracts/released/") or path.endswith("/first.json")
            if not forever:
                continue
            here = root / path
            if not here.exists() or here.read_text("utf-8") != _git(root, "show", f"{tag}:{path}"):
                found.append(f"{tag}: {path}")
    return found


def _git(root: Path, *words: str) -> str:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # set within a hook
    run = subprocess.run(["git", "-C", root, *words], capture_output=True, check=False, env=outside)
    return run.stdout.decode()


def test_released_files_are_as_they_were_released() -> None:
    assert rewritten(golden.HERE.parent) == []


def test_a_rewritten_release_is_seen(tmp_path: Path) -> None:
    kept = tmp_path / "contracts" / "released" / "0.1.0.json"
    first = tmp_path / "contracts" / "examples" / "x" / "first.json"
    other = first.with_name("other.json")
    for path in (kept, first, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "contracts")
    _git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "Release")
    _git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@example.org", "tag", "-m", "Release", "v0.1.0")
    assert rewritten(tmp_path) == []
    kept.write_text('{"no": 1}\n')
    first.unlink()
    other.write_text("[]\n")  # may change: only the first example of an event is for ever
    assert rewritten(tmp_path) == ["v0.1.0: contracts/examples/x/first.json", "v0.1.0: contracts/released/0.1.0.json"]
