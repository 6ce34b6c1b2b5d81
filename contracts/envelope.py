"""The envelope every event travels in: CloudEvents 1.0, structured when we write, structured or binary when we read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contracts.fields import A_TIME, IN_WORDS, PRINTABLE, Instant
from contracts.strict import Undecodable as Undecodable  # raised by `decode`, so found beside it
from contracts.strict import read

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

    @property
    def service(self) -> str:
        """The service that says it, e.g. `enrolment` for `no.kursnett.enrolment.LearnerEnrolled.v1`."""
        return self.type.removeprefix(TYPE_PREFIX).partition(".")[0]


class Event(BaseModel):
    """What one event says: the `data` of its envelope.

    A base class names its place once, in its class line, and its subclasses share it:
    `class EnrolmentEvent(Event, topic="enrolment.enrolments", aggregate="learner", key="learner_id")`.
    `aggregate` is the kind of thing whose events stay in order: `learner/0190…` is one sequence without gaps.
    A second version of an event is a class beside the first: `class CourseCreatedV2(CourseState, major=2)`.
    """

    # A newer writer's field must not stop an older reader. No service meets all events, and what it never meets is
    # never built: 1 MB.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    spec: ClassVar[Spec]

    def __init_subclass__(
        cls, topic: str = "", aggregate: str = "", key: str = "", subject: str = "", major: int = 1, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        above: Spec | None = getattr(cls, "spec", None)
        service = cls.__module__.rpartition(".")[2]
        cls.spec = Spec(
            type=f"{TYPE_PREFIX}{service}.{cls.__name__.removesuffix(f'V{major}')}.v{major}",
            topic=topic or (above.topic if above else ""),
            aggregate=aggregate or (above.aggregate if above else ""),
            key=key or (above.key if above else ""),
            subject=subject or key or (above.subject if above else ""),
        )


# CloudEvents' own rule for attributes (1.0, "String"): they go into log lines, headers and text columns.
Attribute = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]
Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]  # CloudEvents' Integer is 32 bits


def _known_version(value: str) -> str:
    if value != "1.0":
        raise ValueError("must be 1.0")
    return value


def _json_data(value: str) -> str:
    if not value.partition(";")[0].strip().lower().endswith(("/json", "+json")):
        raise ValueError("must be application/json")
    return value


class Envelope(BaseModel):
    """One event as it lies on a topic. Attribute names are CloudEvents' (lower case, no underscores)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Annotated[str, AfterValidator(_known_version)] = "1.0"
    id: Attribute
    source: Attribute
    type: Attribute
    subject: Attribute | None = None
    time: Instant | None = None
    datacontenttype: Annotated[Attribute, AfterValidator(_json_data)] = "application/json"
    partner: Attribute | None = None
    partitionkey: Attribute | None = None
    correlationid: Attribute | None = None
    causationid: Attribute | None = None
    traceparent: Attribute | None = None
    aggregate: Annotated[str, Field(max_length=250, pattern=PRINTABLE)] | None = None  # a kind, "/" and a key of 200
    epoch: Whole | None = None
    seq: Whole | None = None
    data: dict[str, Any]


_Plain = Annotated[str, Field(min_length=1, max_length=200)]


class _Ours(Envelope):
    """The same, as `encode` writes it: no function of Python looks at a field, which halves what reading costs."""

    specversion: Literal["1.0"] = "1.0"  # what is written otherwise is read carefully
    id: _Plain
    source: _Plain
    type: _Plain
    subject: _Plain | None = None
    time: AwareDatetime | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    partner: _Plain | None = None
    partitionkey: _Plain | None = None
    correlationid: _Plain | None = None
    causationid: _Plain | None = None
    traceparent: _Plain | None = None
    aggregate: Annotated[str, Field(max_length=250)] | None = None


# What `PRINTABLE` refuses and JSON lets stand as it is: in UTF-8, DEL, the C1 controls, U+FFFE and U+FFFF.
_UNPRINTABLE = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xef\xbf[\xbe\xbf]")


def _plain(value: bytes) -> bool:
    """Whether no text in it can hold what an attribute may not, or a database could not keep: an escape may hide it."""
    if b"\\" in value:
        return False
    return b"\x7f" not in value if value.isascii() else _UNPRINTABLE.search(value) is None


def encode(envelope: Envelope) -> bytes:
    """The envelope in structured mode, UTF-8 JSON, without its empty attributes."""
    return envelope.model_dump_json(exclude_none=True).encode()


def decode(value: bytes | None, headers: Sequence[tuple[str, bytes | None]], *, ours: bool = False) -> Envelope:
    """Read a record as an envelope, in binary mode when a `ce_` header names a required attribute, else structured.

    A `content-type` header is never believed: it may lie. `ours`: only our services write there, with `encode`, so the
    careful reader is needed only for what does not look like it. Raises `Undecodable`, whatever the bytes are, with
    the reason `empty`, `too_large`, `not_utf8`, `not_json` or `invalid`.
    """
    if not value:
        raise Undecodable("empty", "the record has no value (a tombstone)")
    if ours and len(headers) == 1 and _plain(value):
        try:
            return _Ours.model_validate_json(value)
        except ValidationError:
            pass  # the careful reader says what is wrong
    is_binary = any(name.lower() in _BINARY for name, _ in headers)
    said = {**_attributes(headers), "data": read(value)} if is_binary else _one_event(read(value))
    try:
        return Envelope.model_validate(said)
    except ValidationError as error:
        has_id = not any(one["loc"][:1] == ("id",) for one in error.errors())
        raise Undecodable(*explain(error), said["id"] if has_id else None) from None


def _one_event(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        raise Undecodable("invalid", "body: is a batch, an array of events: send each event as a record of its own")
    if not isinstance(value, dict):
        raise Undecodable("invalid", "body: must be one event, a JSON object")
    return value


# One header such as ce_traceparent, put on by a tracing library, does not make a structured event a binary one.
_BINARY = frozenset({"ce_specversion", "ce_id", "ce_source", "ce_type"})


def _attributes(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, raw in headers:
        name = name.lower()
        if not name.startswith("ce_"):
            continue
        if raw is None:
            raise Undecodable("invalid", f"{_place(name)}: the header has no value")
        if name[3:] in attributes:  # some readers keep the first, some the last
            raise Undecodable("invalid", f"{_place(name)}: the header stands twice")
        try:
            attributes[name[3:]] = raw.decode()
        except UnicodeDecodeError:
            raise Undecodable("not_utf8", f"{_place(name)}: the header is not UTF-8") from None
    return attributes


def _place(part: object) -> str:
    """A field's name as it may be shown: a stranger chose the names of its fields, and may have put anything there."""
    return str(part) if re.fullmatch(r"[\w\[\]-]{1,40}", str(part), re.ASCII) else "…"


WORDS = {  # where pydantic speaks of Python, and of classes that are nobody else's
    "missing": "is missing",
    "extra_forbidden": "is not a field here: check its spelling, or leave it out",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "list_type": "must be a JSON list",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false",
    "timezone_aware": A_TIME,
    # With a number, or a choice, of their own words:
    "greater_than_equal": "must be at least {}",
    "less_than_equal": "must be at most {}",
    "string_too_long": "must be at most {} characters",
    "literal_error": "must be {}",
}
_KINDS = {  # those of which there are several
    "bool": WORDS["bool_type"],
    "int": "must be a whole number",
    "datetime": f"is not a day or time that there is; it {A_TIME}",
    "uuid": "must be an id such as 01976c1e-7a4b-7cc2-9a51-3f0f5d2c8e10",
}
_COUNTED = re.compile(r"at (?:least|most) \d+ items?")
_OWN = re.compile(r"'.+|\d+")


def words_of(problem: Mapping[str, Any]) -> str:
    """What is wrong with a field, by one of pydantic's errors: the same words for each way in."""
    said = str(problem["msg"])
    kind = str(problem.get("type", ""))
    if kind == "string_pattern_mismatch":
        return next((words for pattern, words in IN_WORDS.items() if pattern in said), said)
    if kind in ("too_long", "too_short") and (counted := _COUNTED.search(said)):
        return f"must have {counted[0]}"
    words = WORDS.get(kind) or _KINDS.get(kind.partition("_")[0])
    own = _OWN.search(said)
    return words.format(own[0] if own else "") if words else said.removeprefix("Value error, ")


def field_of(parts: Sequence[Any]) -> str:
    """Where pydantic found it, as a sender would write it: `contact.email`, `places[1].arena`."""
    name = ""
    for part in parts:
        if part == "[key]":  # pydantic's word for: the name itself, not what stands under it
            continue
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


def explain(error: ValidationError) -> tuple[str, str]:
    """A validation error as (reason code, "field: what is wrong; …"), without any value from the input."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    if problems and problems[0]["type"] == "json_invalid":
        return "not_json", problems[0]["msg"]
    shown = [
        f"{field_of([one if isinstance(one, int) else _place(one) for one in p['loc']]) or 'body'}: {words_of(p)}"
        for p in problems[:5]
    ]
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
    """Put an event of ours in its envelope. `partner` comes from the event's own field of that name, if it has one.

    Nothing is checked again: the event was when it was made, ids are ours, and `time` is the database's, in UTC. That
    is a tenth of what saying an event costs.
    """
    return Envelope.model_construct(
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
