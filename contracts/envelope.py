"""The envelope every event travels in: CloudEvents 1.0, structured when we write, structured or binary when we read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

STRUCTURED = "application/cloudevents+json"
TYPE_PREFIX = "no.kursnett."


@dataclass(frozen=True)
class Spec:
    """Where one kind of event belongs. `key` and `subject` are names of the event's own fields."""

    type: str
    topic: str
    aggregate: str
    key: str
    subject: str


class Event(BaseModel):
    """What one event says: the `data` of its envelope.

    A base class names its place once, in its class line, and its subclasses share it:
    `class EnrolmentEvent(Event, topic="enrolment.enrolments", aggregate="learner", key="learner_id", subject="enrolment_id")`.
    `aggregate` is the kind of thing whose events stay in order: `learner/0190…` is one sequence without gaps on that topic.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer writer's field must not stop an older reader

    spec: ClassVar[Spec]

    def __init_subclass__(
        cls, topic: str = "", aggregate: str = "", key: str = "", subject: str = "", major: int = 1, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        above: Spec | None = getattr(cls, "spec", None)
        service = cls.__module__.rpartition(".")[2]
        cls.spec = Spec(
            type=f"{TYPE_PREFIX}{service}.{cls.__name__}.v{major}",
            topic=topic or (above.topic if above else ""),
            aggregate=aggregate or (above.aggregate if above else ""),
            key=key or (above.key if above else ""),
            subject=subject or key or (above.subject if above else ""),
        )


class Envelope(BaseModel):
    """One event as it lies on a topic. Attribute names are CloudEvents' (lower case, no underscores)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: str = "1.0"
    id: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=200)
    type: str = Field(min_length=1, max_length=200)
    subject: str | None = Field(default=None, max_length=200)
    time: AwareDatetime | None = None
    datacontenttype: str = "application/json"
    partner: str | None = Field(default=None, max_length=60)
    partitionkey: str | None = Field(default=None, max_length=200)
    correlationid: str | None = Field(default=None, max_length=200)
    causationid: str | None = Field(default=None, max_length=200)
    traceparent: str | None = Field(default=None, max_length=60)
    aggregate: str | None = Field(default=None, max_length=250)
    epoch: int | None = None
    seq: int | None = None
    data: dict[str, Any]

    @field_validator("specversion")
    @classmethod
    def known_version(cls, value: str) -> str:
        if value != "1.0":
            raise ValueError("specversion must be 1.0")
        return value

    @field_validator("datacontenttype")
    @classmethod
    def json_data(cls, value: str) -> str:
        if value.partition(";")[0].strip().lower() not in ("application/json", "text/json"):
            raise ValueError("datacontenttype must be application/json")
        return value


class Undecodable(Exception):
    """These bytes are not an event. `reason` is a code for counting, `detail` names the place and never the value."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def encode(envelope: Envelope) -> bytes:
    """The envelope in structured mode, UTF-8 JSON, without its empty attributes."""
    return envelope.model_dump_json(exclude_none=True).encode()


def decode(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """Read a record as an envelope, in structured mode or (when it has `ce_*` headers) in binary mode.

    A `content-type` header is never believed: it may lie. Raises `Undecodable`, whatever the bytes are.
    """
    if value is None or value == b"":
        raise Undecodable("empty", "the record has no value (a tombstone)")
    attributes = {name[3:].lower(): raw for name, raw in headers if name.lower().startswith("ce_")}
    try:
        if attributes:
            return Envelope.model_validate(_binary(value, attributes))
        return Envelope.model_validate_json(value)
    except ValidationError as error:
        raise Undecodable(*explain(error)) from None


def _binary(value: bytes, attributes: dict[str, bytes | None]) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = {name: raw.decode() for name, raw in attributes.items() if raw is not None}
    except UnicodeDecodeError:
        raise Undecodable("not_utf8", "a ce_ header is not UTF-8") from None
    try:
        fields["data"] = json.loads(value)
    except UnicodeDecodeError:
        raise Undecodable("not_utf8", "the value is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Undecodable("not_json", "the value is not JSON") from None
    return fields


def explain(error: ValidationError) -> tuple[str, str]:
    """A validation error as (reason code, "field: what is wrong; …"), without any value from the input."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    if problems and problems[0]["type"] == "json_invalid":
        return "not_json", problems[0]["msg"]
    shown = [f"{'.'.join(str(part) for part in p['loc']) or 'body'}: {p['msg']}" for p in problems[:5]]
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    return "invalid", "; ".join(shown) + more


def source_of(service: str) -> str:
    return f"/{service}"


def aggregate_of(event: Event) -> str:
    """The name of the sequence this event belongs to, e.g. `learner/0190…`."""
    return f"{event.spec.aggregate}/{getattr(event, event.spec.key)}"


def wrap(
    event: Event,
    *,
    id: UUID,
    source: str,
    time: datetime,
    epoch: int,
    seq: int,
    correlationid: str | None = None,
    causationid: str | None = None,
    traceparent: str | None = None,
) -> Envelope:
    """Put an event of ours in its envelope. `partner` is taken from the event's own field of that name, if it has one."""
    return Envelope(
        id=str(id),
        source=source,
        type=event.spec.type,
        subject=str(getattr(event, event.spec.subject)),
        time=time,
        partner=getattr(event, "partner", None),
        partitionkey=str(getattr(event, event.spec.key)),
        correlationid=correlationid,
        causationid=causationid,
        traceparent=traceparent,
        aggregate=aggregate_of(event),
        epoch=epoch,
        seq=seq,
        data=event.model_dump(mode="json"),
    )
