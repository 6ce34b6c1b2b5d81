"""Every event has its schema, examples and README row, and the files made from the classes are current."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from contracts import golden, released
from contracts.asyncapi import ALL_TOPICS, event_schema, said_on
from contracts.catalogue import CourseState
from contracts.envelope import Envelope, Event, decode
from contracts.registry import BY_TYPE, EVENTS

HERE = golden.HERE
EXAMPLES = sorted((HERE / "examples").glob("*/*.json"))
each_event = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.spec.type)
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def test_golden_files_are_current() -> None:
    assert golden.stale() == [], "run `make contracts` and commit what it writes"


def test_a_stale_missing_or_left_over_file_is_named_and_mended(tmp_path: Path) -> None:
    folder = tmp_path / "contracts"
    shutil.copytree(HERE, folder)
    (folder / "asyncapi.json").write_text("{}")
    (folder / "schemas" / f"{EVENTS[0].spec.type}.json").unlink()
    (folder / "schemas" / "no.kursnett.catalogue.CourseSold.v1.json").write_text("{}")
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace(f"`{EVENTS[-1].spec.type}`", "`gone`"))
    named = [
        f"contracts/schemas/{EVENTS[0].spec.type}.json: missing",
        "contracts/asyncapi.json: out of date",
        "contracts/README.md: out of date",
        "contracts/schemas/no.kursnett.catalogue.CourseSold.v1.json: belongs to nothing",
    ]
    assert golden.stale(folder) == named
    assert golden.write(folder) == named
    assert golden.stale(folder) == []


def test_a_readme_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="table of events"):
        golden.with_tables("# Contracts")


@each_event
def test_an_event_has_a_schema_examples_and_a_row(event: type[Event]) -> None:
    type_ = event.spec.type
    assert json.loads((HERE / "schemas" / f"{type_}.json").read_text()) == event_schema(event)
    assert (HERE / "examples" / type_ / "first.json").exists()
    assert (HERE / "README.md").read_text().count(f"| `{type_}` |") == 1
    assert event.__doc__, "the README says what each event says"


@each_event
def test_an_example_holds_no_more_than_an_event_needs(event: type[Event]) -> None:
    required = set(event_schema(event)["required"])
    shown = [set(_shown(path)["data"]) for path in EXAMPLES if path.parent.name == event.spec.type]
    assert required in shown


@each_event
def test_an_event_is_at_home_on_a_declared_topic(event: type[Event]) -> None:
    spec = event.spec
    assert event in [said for topic in ALL_TOPICS for said in said_on(topic)]
    assert {spec.key, spec.subject} <= set(event.model_fields), "key and subject are fields of the event"
    assert spec.aggregate
    assert BY_TYPE[spec.type] is event


def test_each_event_type_is_in_the_registry_once() -> None:
    assert len(BY_TYPE) == len(EVENTS)


def test_a_second_version_keeps_the_name_of_the_first() -> None:
    class CourseCreatedV2(CourseState, major=2):
        """As the README says to write it."""

    assert CourseCreatedV2.spec.type.endswith(".CourseCreated.v2")


def test_no_example_is_of_an_unknown_event() -> None:
    assert {path.parent.name for path in EXAMPLES} == set(BY_TYPE)


@each_example
def test_an_example_is_valid_and_read(path: Path) -> None:
    shown = _shown(path)
    event = BY_TYPE[path.parent.name]
    assert _faults(event_schema(event), shown["data"]) == []
    assert _faults(Envelope.model_json_schema(), shown) == []

    envelope = decode(path.read_bytes(), [("content-type", b"application/cloudevents+json")])
    assert envelope.type == event.spec.type
    assert envelope.data == shown["data"]
    read = event.model_validate(envelope.data)
    assert {str(getattr(read, event.spec.key))} >= {envelope.partitionkey} - {None}


def test_a_schema_refuses_what_is_not_the_event() -> None:
    # The control of the test above: a validator that passes everything would pass all examples.
    schema = event_schema(BY_TYPE["no.kursnett.partner.CoursePublished.v1"])
    assert _faults(schema, {"code": "A", "title": {"nb": "Kurs"}}) == []
    assert _faults(schema, {"title": {"nb": "Kurs"}})
    assert _faults(schema, {"code": "A", "title": {"xx": "Kurs"}})
    assert _faults(schema, {"code": "A", "title": {"nb": "Kurs"}, "studiepoeng": "7,5"})


def test_no_example_names_a_person() -> None:
    whole = " ".join(path.read_text() for path in EXAMPLES)
    assert "@" not in whole
    assert '"email":' not in whole
    assert '"name":' not in "".join(path.read_text() for path in EXAMPLES if "Partner" not in path.parent.name)


def test_every_attribute_has_a_row_in_the_readme() -> None:
    readme = (HERE / "README.md").read_text()
    table = readme[readme.index("| attribute |") : readme.index("An attribute is 1 to 200")]
    assert [name for name in Envelope.model_fields if f"`{name}`" not in table] == []


def test_the_readmes_examples_are_events() -> None:
    blocks = [block for block in (HERE / "README.md").read_text().split("```") if "value:" in block]
    assert len(blocks) == 2
    for block in blocks:
        above, _, value = block.partition("value:")
        headers = [(name, text.encode()) for name, text in re.findall(r"header: +(\S+) = (.+)", above)]
        envelope = decode(value.strip().encode(), headers)
        event = BY_TYPE[envelope.type].model_validate(envelope.data)
        assert getattr(event, event.spec.key) == envelope.subject
        assert re.findall(r"key: +(\S+)", above) == [envelope.subject]


def test_a_release_is_written_once_and_holds_what_changed(tmp_path: Path) -> None:
    released.release("0.1.0", tmp_path)
    with pytest.raises(FileExistsError, match="never written again"):
        released.release("0.1.0", tmp_path)
    with pytest.raises(ValueError, match="no event has changed"):
        released.release("0.2.0", tmp_path)
    with pytest.raises(ValueError, match="not a version"):
        released.release("v1", tmp_path)
    assert set(released.releases(tmp_path)["0.1.0"]) == set(BY_TYPE)

    first = tmp_path / "0.1.0.json"
    events = json.loads(first.read_text())
    events["no.kursnett.catalogue.CourseCreated.v1"]["schema"]["required"].remove("code")
    first.write_text(json.dumps(events))
    released.release("0.10.0", tmp_path)
    assert list(released.releases(tmp_path)["0.10.0"]) == ["no.kursnett.catalogue.CourseCreated.v1"]
    with pytest.raises(ValueError, match="no event has changed"):
        released.release("0.11.0", tmp_path)


def _shown(path: Path) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return shown


def _faults(schema: dict[str, Any], value: Any) -> list[str]:
    found = OAS31Validator(schema, format_checker=oas31_format_checker).iter_errors(value)
    return [error.message for error in found]
