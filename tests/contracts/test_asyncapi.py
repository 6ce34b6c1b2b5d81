"""The AsyncAPI document is one: its references lead somewhere, and other tools' models read it."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from openapi_schema_validator import OAS31Validator
from pydantic import ValidationError

from contracts.asyncapi import ALL_TOPICS, PARKED, document
from contracts.envelope import decode
from contracts.golden import HERE
from contracts.registry import EVENTS


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def lead_nowhere(whole: dict[str, Any]) -> list[str]:
    lost = []
    for reference in references(whole):
        here: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            here = here.get(step, {})
        if not here:
            lost.append(reference)
    return lost


def test_fast_streams_models_read_the_document() -> None:
    read = ApplicationSchema.model_validate(document())
    assert read.asyncapi == "3.0.0"
    assert {operation.action.value for operation in read.operations.values()} == {"send", "receive"}
    assert all(channel.bindings and channel.bindings.kafka for channel in read.channels.values())


@pytest.mark.parametrize(
    ("path", "value"),
    [(("operations", "catalogue.send.catalogue.courses", "action"), "say"), (("info",), {}), (("channels",), [])],
)
def test_those_models_refuse_another_document(path: tuple[str, ...], value: Any) -> None:
    whole = here = copy.deepcopy(document())
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    with pytest.raises(ValidationError):
        ApplicationSchema.model_validate(whole)


def test_every_reference_leads_somewhere() -> None:
    whole = document()
    assert lead_nowhere(whole) == []
    del whole["components"]["schemas"]["Session"]
    assert set(lead_nowhere(whole)) == {"#/components/schemas/Session"}


def test_every_topic_is_a_channel_with_its_settings() -> None:
    channels = document()["channels"]
    assert {channel["address"] for channel in channels.values()} == {topic.name for topic in ALL_TOPICS}
    for topic in ALL_TOPICS:
        [binding] = [c["bindings"]["kafka"] for c in channels.values() if c["address"] == topic.name]
        assert binding["partitions"] == topic.partitions
        assert binding["topicConfiguration"]["max.message.bytes"] == topic.batch_bytes
    assert list(channels["enrolment.parked"]["messages"]) == [PARKED]


def test_who_sends_and_who_receives_stands_as_operations() -> None:
    operations = document()["operations"]
    assert operations["partners.send.partners.courses"]["channel"] == {"$ref": "#/channels/partners.courses"}
    assert "catalogue.receive.partners.courses" in operations
    assert "operators.receive.enrolment.parked" in operations
    assert [name for name in operations if name.endswith("enrolment.contacts")] == [
        "enrolment.send.enrolment.contacts",
        "notifier.receive.enrolment.contacts",
    ]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.spec.type)
def test_a_message_describes_the_whole_event_as_it_lies_on_the_topic(event: Any) -> None:
    whole = document()
    message = whole["components"]["messages"][event.spec.type]
    payload = {**message["payload"], "components": whole["components"]}
    raw = (HERE / "examples" / event.spec.type / "first.json").read_bytes()
    shown = decode(raw, []).model_dump(mode="json", exclude_none=True)
    assert list(OAS31Validator(payload).iter_errors(shown)) == []
    assert list(OAS31Validator(payload).iter_errors({**shown, "type": "another"}))
    assert list(OAS31Validator(payload).iter_errors({**shown, "data": {}}))
