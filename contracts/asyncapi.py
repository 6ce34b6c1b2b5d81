"""The AsyncAPI 3.0 document: every topic, what is said on it, by whom and to whom, for tools and for partners."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from contracts.envelope import STRUCTURED, Envelope, Event
from contracts.registry import EVENTS, TOLD
from contracts.topics import TOPICS, Topic, partner_courses, partner_feed

Json = dict[str, Any]

# Every partner's topics in one: `{partner}` stands for the slug, in the topic table as in the address of the channel.
ALL_TOPICS = (*TOPICS, partner_courses("{partner}"), partner_feed("{partner}"))
PARKED = "parked"
_BINDING = "0.5.0"  # of the AsyncAPI Kafka bindings
_READ: JsonSchemaMode = "validation"  # what a reader needs: a field with a default may be absent


class Untitled(GenerateJsonSchema):
    """Schemas without a title on each field: pydantic makes them of the names, and says nothing new."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def event_schema(event: type[Event]) -> Json:
    """The JSON Schema of one event's data, as its golden file has it."""
    schema = event.model_json_schema(mode=_READ, schema_generator=Untitled)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def document() -> Json:
    """The whole document, as plain JSON values."""
    models: list[type[BaseModel]] = [Envelope, *EVENTS]
    refs, schemas = models_json_schema(
        [(model, _READ) for model in models],
        schema_generator=Untitled,
        ref_template="#/components/schemas/{model}",
    )
    envelope = refs[Envelope, _READ]
    messages = {event.spec.type: _message(event, envelope, refs[event, _READ]) for event in EVENTS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kursnett",
            "version": "1",
            "description": "What the services and the partners say to each other over Kafka. Every event is a"
            " CloudEvent 1.0. Order is promised per key and nowhere else. Unknown fields and types are to be ignored.",
        },
        "defaultContentType": STRUCTURED,
        "channels": {_id(topic): _channel(topic) for topic in ALL_TOPICS},
        "operations": {name: body for topic in ALL_TOPICS for name, body in _operations(topic)},
        "components": {"messages": {**messages, PARKED: _PARKED_MESSAGE}, "schemas": schemas["$defs"]},
    }


def said_on(topic: Topic) -> list[type[Event]]:
    """The events of a topic, in the registry's order; none on a parked topic, where copies of anything lie."""
    return [event for event in EVENTS if event.spec.topic == topic.name]


def said_by(topic: Topic) -> str:
    """Who writes: a topic's owner makes the topic, and only where strangers speak it is written by somebody else."""
    return "partners" if topic.foreign else topic.owner


def _id(topic: Topic) -> str:
    return topic.name.replace("{partner}.", "")


def _message_names(topic: Topic) -> list[str]:
    again = [event for event in TOLD if event.spec.topic in topic.repeats]
    return [event.spec.type for event in [*said_on(topic), *again]] or [PARKED]


def _channel(topic: Topic) -> Json:
    again = (
        f" Says again what is said on {' and '.join(topic.repeats)}, without what is sealed." if topic.repeats else ""
    )
    channel: Json = {
        "address": topic.name,
        "description": f"Key: {topic.key}. Written by {said_by(topic)}, read by {', '.join(topic.readers)}.{again}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(topic)},
        "bindings": {"kafka": _kafka(topic)},
    }
    if "{partner}" in topic.name:
        channel["parameters"] = {"partner": {"description": "the partner's slug: a-z, 0-9 and hyphens"}}
    return channel


def _kafka(topic: Topic) -> Json:
    kept = topic.settings
    configuration: Json = {"cleanup.policy": [kept["cleanup.policy"]]}
    for name in ("retention.ms", "max.message.bytes"):
        if name in kept:
            configuration[name] = int(kept[name])
    return {"partitions": topic.partitions, "topicConfiguration": configuration, "bindingVersion": _BINDING}


def _operations(topic: Topic) -> list[tuple[str, Json]]:
    speaks = [(said_by(topic), "send")]
    hears = [(reader, "receive") for reader in topic.readers]
    channel = f"#/channels/{_id(topic)}"
    return [
        (
            f"{who}.{action}.{_id(topic)}",
            {
                "action": action,
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in _message_names(topic)],
                "tags": [{"name": who}],
            },
        )
        for who, action in speaks + hears
    ]


def _message(event: type[Event], envelope: Json, data: Json) -> Json:
    says: Json = {"type": "object", "properties": {"type": {"const": event.spec.type}, "data": data}}
    return {
        "name": event.spec.type,
        "title": event.__name__,
        "summary": (event.__doc__ or "").strip(),
        "contentType": STRUCTURED,
        "correlationId": {"location": "$message.payload#/correlationid"},
        "payload": {"allOf": [envelope, says]},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"`data.{event.spec.key}`, also in `partitionkey`"},
                "bindingVersion": _BINDING,
            }
        },
    }


_PARKED_MESSAGE: Json = {
    "name": PARKED,
    "title": "A copy of a record that could not be handled",
    "summary": "The record's bytes as they came; the headers say where it lay and why it was parked.",
    "contentType": "application/octet-stream",
    "headers": {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "a code, such as not_json"},
            "topic": {"type": "string"},
            "partition": {"type": "string"},
            "offset": {"type": "string"},
        },
    },
    "payload": {},
}
