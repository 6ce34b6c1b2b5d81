"""Our envelope is everybody's CloudEvent: written and read by the CloudEvents SDK, in both of its modes."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.catalogue import PartnerJoined
from contracts.enrolment import LearnerEnrolled
from contracts.envelope import STRUCTURED, Envelope, Undecodable, decode, encode, explain, wrap
from contracts.partner import CoursePublished
from contracts.registry import EVENTS

LEARNER = UUID("019ab4a0-b3c0-7121-8f10-c3412994f89c")
NOW = datetime(2026, 11, 24, 9, 14, 3, 551_000, tzinfo=UTC)
ATTRIBUTES: dict[str, Any] = {
    "specversion": "1.0",
    "id": "lms/æøå-1",
    "source": "/partners/torgar",
    "type": CoursePublished.spec.type,
    "subject": "HELSE-101",
    "time": NOW,
    "datacontenttype": "application/json; charset=utf-8",
    "partitionkey": "HELSE-101",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "lmsversion": "4.2",
}
DATA = {"code": "HELSE-101", "title": {"nb": "Trygg bruk av legemidler 💊"}, "studiepoeng": None, "price_ore": 450000}


def enrolled() -> Envelope:
    said = LearnerEnrolled(
        enrolment_id=UUID(int=1),
        learner_id=LEARNER,
        offering_id=UUID(int=2),
        course_id=UUID(int=3),
        partner="torgar",
        place="bronnoysund",
    )
    return wrap(said, id=UUID(int=4), source="/enrolment", time=NOW, epoch=1, seq=7, correlationid="request-1")


def headers_of(message: kafka.KafkaMessage) -> list[tuple[str, bytes | None]]:
    return list(message.headers.items())


@pytest.mark.parametrize("write", [kafka.to_binary_event, kafka.to_structured_event])
def test_what_the_sdk_writes_is_read(write: Any) -> None:
    message = write(CloudEvent(ATTRIBUTES, DATA))
    read = decode(message.value, headers_of(message))
    shown = read.model_dump(exclude_none=True)
    assert shown == {**{name: value for name, value in ATTRIBUTES.items() if name != "lmsversion"}, "data": DATA} | {
        "datacontenttype": read.datacontenttype  # in binary mode it is the content-type header, which is not believed
    }
    assert CoursePublished.model_validate(read.data).price_ore == 450000


def test_what_we_write_is_read_by_the_sdk() -> None:
    ours = enrolled()
    message = kafka.KafkaMessage({"content-type": STRUCTURED.encode()}, str(LEARNER).encode(), encode(ours))
    read = kafka.from_kafka_event(message)
    assert read.get_type() == "no.kursnett.enrolment.LearnerEnrolled.v1"
    assert read.get_id() == str(UUID(int=4))
    assert read.get_source() == "/enrolment"
    assert read.get_subject() == str(UUID(int=1))
    assert read.get_time() == NOW
    assert read.get_extension("partitionkey") == str(LEARNER)
    assert read.get_extension("aggregate") == f"learner/{LEARNER}"
    assert (read.get_extension("epoch"), read.get_extension("seq")) == (1, 7)
    assert read.get_extension("partner") == "torgar"
    assert read.get_extension("correlationid") == "request-1"
    assert read.get_data() == ours.data


def test_what_the_sdk_reads_of_ours_and_writes_again_is_the_same_event() -> None:
    ours = enrolled()
    read = kafka.from_structured_event(kafka.KafkaMessage({}, None, encode(ours)))
    again = kafka.to_binary_event(read)
    assert decode(again.value, headers_of(again)) == ours


def test_our_event_has_no_empty_attribute_and_keeps_an_empty_field() -> None:
    written = json.loads(encode(enrolled()))
    assert "causationid" not in written
    joined = PartnerJoined(partner="torgar", name="Torgar", arenas=[], version=1)
    written = json.loads(encode(wrap(joined, id=UUID(int=1), source="/catalogue", time=NOW, epoch=1, seq=1)))
    assert written["data"]["orgnr"] is None
    assert written["time"] == "2026-11-24T09:14:03.551000Z"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.spec.type)
def test_the_service_and_class_stand_in_the_type(event: Any) -> None:
    assert event.spec.type == f"no.kursnett.{event.__module__.removeprefix('contracts.')}.{event.__name__}.v1"
    assert event.spec.service == event.__module__.removeprefix("contracts.")


def structured(**change: Any) -> bytes:
    shown = {**ATTRIBUTES, "time": "2026-11-24T09:14:03.551Z", "data": DATA, **change}
    return json.dumps({name: value for name, value in shown.items() if value != "left out"}).encode()


def test_a_structured_event_may_carry_a_tracing_librarys_header() -> None:
    assert decode(structured(), [("ce_traceparent", b"00-0"), ("b3", None)]).subject == "HELSE-101"


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"text/plain", b"application/avro", b"\xff", b"", None, STRUCTURED.encode()]
)
def test_a_content_type_is_not_believed(content_type: bytes | None) -> None:
    assert decode(structured(), [("content-type", content_type), ("reply_to", b"enrolment.contacts")]).data == DATA
    binary = kafka.to_binary_event(CloudEvent(ATTRIBUTES, DATA))
    headers = [*headers_of(binary), ("Content-Type", content_type)]
    assert decode(binary.value, headers).data == DATA


@pytest.mark.parametrize(
    ("value", "words"),
    [(b"[%s]" % structured(), "is a batch"), (b"[]", "is a batch"), (b'"x"', "JSON object"), (b"null", "JSON object")],
    ids=["batch", "empty batch", "text", "null"],
)
def test_what_is_not_one_event_is_told_so(value: bytes, words: str) -> None:
    with pytest.raises(Undecodable, match=f"^invalid: body: .*{words}"):
        decode(value, [("content-type", b"application/cloudevents-batch+json")])


def test_attributes_that_nobody_needs_may_be_left_out() -> None:
    least = {name: "left out" for name in ATTRIBUTES if name not in ("id", "source", "type")}
    read = decode(structured(**least), [])
    assert (read.subject, read.time, read.seq, read.datacontenttype) == (None, None, None, "application/json")


@pytest.mark.parametrize(
    "data_type", ["application/json", "text/json", "application/vnd.lms+json", "Application/JSON;x=1"]
)
def test_data_may_be_any_json(data_type: str) -> None:
    assert decode(structured(datacontenttype=data_type), []).data == DATA


BAD_ATTRIBUTES: list[tuple[str, Any]] = [
    ("specversion", "0.3"),
    ("specversion", "2.0"),
    ("specversion", 1.0),
    ("datacontenttype", "application/avro"),
    ("datacontenttype", "application/xml"),
    ("time", "yesterday"),
    ("time", "2026-11-24T09:14:03"),
    ("time", 1_795_000_000),
    ("time", "0001-01-01T00:00:00+23:00"),
    ("seq", -1),
    ("seq", 2**31),
    ("seq", "1e3"),
    ("epoch", 2**31),
    ("epoch", 1.5),
    ("data", "left out"),
    ("data", None),
    ("data", []),
    ("data", "eyJjb2RlIjogMX0="),
    *((name, "left out") for name in ("id", "source", "type")),
    *((name, "") for name in ("id", "source", "type", "subject", "partitionkey")),
    *((name, 7) for name in ("id", "source", "type", "subject", "correlationid")),
    *(
        (name, f"A{letter}B")
        for name in ("id", "source", "type", "subject", "partner", "partitionkey", "correlationid", "causationid",
                     "traceparent", "aggregate", "datacontenttype")
        for letter in ("\x00", "\n", "\r", "\x1b", "\x7f", "\x9f", "\ud83d", "\uffff")
    ),
    *((name, "x" * 300) for name in ("id", "source", "type", "subject", "partner", "correlationid", "aggregate")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_ATTRIBUTES, ids=ascii)
def test_an_attribute_that_cannot_be_right_or_be_kept_is_invalid(name: str, value: Any) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(structured(**{name: value}), [])
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "correlationid", "partitionkey"])
@pytest.mark.parametrize("letter", ["\x00", "\x1f", "\x85"])
def test_nor_may_it_come_in_a_header(name: str, letter: str) -> None:
    message = kafka.to_binary_event(CloudEvent(ATTRIBUTES, DATA))
    message.headers[f"ce_{name}"] = f"A{letter}B".encode()
    with pytest.raises(Undecodable, match=f"^invalid: {name}: "):
        decode(message.value, headers_of(message))


@pytest.mark.parametrize("name", ["id", "source", "subject", "correlationid", "partitionkey"])
@pytest.mark.parametrize("letter", ["\x00", "\n", "\ud83d"])
def test_nor_may_we_write_it(name: str, letter: str) -> None:
    shown: dict[str, Any] = {"id": "1", "source": "/x", "type": "x", "data": {}}
    with pytest.raises(ValidationError):
        Envelope.model_validate({**shown, name: f"A{letter}B"})


@pytest.mark.parametrize(
    ("data", "told"),
    [([], "body: must be a JSON object"), ({"code": "A", "title": 7}, "title: must be a JSON object")],
)
def test_what_is_no_object_is_told_in_words_of_json_and_not_of_python(data: Any, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CoursePublished.model_validate(data)
    assert explain(caught.value) == ("invalid", told)


def test_what_is_wrong_is_told_without_a_value_or_a_strangers_name() -> None:
    secret = "kari.nordmann@example.no"
    with pytest.raises(ValidationError) as caught:
        CoursePublished.model_validate(
            {"code": secret, "title": {secret: secret, "nb": "x" * 300}, "price_ore": secret}
        )
    reason, detail = explain(caught.value)
    assert reason == "invalid"
    assert "code: " in detail
    assert "title.…: must be 'nb'" in detail
    assert "title.nb: must be at most 200 characters" in detail
    assert "kari" not in detail


printable = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff"), min_size=1
)
attribute = printable.map(lambda text: text[:200])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(attribute, inner, max_size=4),
    max_leaves=12,
)
# Hypothesis takes its limits without a zone, and adds one.
first, last = datetime.fromisoformat("2000-01-02"), datetime.fromisoformat("2099-12-30")
times = st.datetimes(first, last, timezones=st.timezones())
fields: dict[str, st.SearchStrategy[Any]] = {
    "id": attribute,
    "source": attribute,
    "type": attribute,
    "subject": st.none() | attribute,
    "partner": st.none() | attribute,
    "partitionkey": st.none() | attribute,
    "correlationid": st.none() | attribute,
    "aggregate": st.none() | attribute,
    "epoch": st.none() | st.integers(0, 2**31 - 1),
    "seq": st.none() | st.integers(0, 2**31 - 1),
    "data": st.dictionaries(attribute, values, max_size=6),
}
envelopes = st.builds(Envelope, time=st.none() | times, **fields)
timed = st.builds(Envelope, time=times, **fields)  # the SDK makes up a time where there is none


@given(envelopes)
def test_what_is_written_is_read_back(envelope: Envelope) -> None:
    assert decode(encode(envelope), []) == envelope


@given(timed)
def test_the_sdk_carries_any_event_through_binary_mode(envelope: Envelope) -> None:
    read = kafka.from_structured_event(kafka.KafkaMessage({}, None, encode(envelope)))
    message = kafka.to_binary_event(read)
    assert decode(message.value, headers_of(message)) == envelope


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"subject": "kurs på Åsen 東京"},
        {"subject": "a\x7fb"},
        {"subject": "a\x85b"},
        {"subject": "a\ufffeb"},
        {"subject": "a\uffffb"},
        {"subject": 'a"b'},
        {"subject": ""},
        {"subject": "x" * 201},
        {"aggregate": "x" * 251},
        {"seq": -1},
        {"seq": 2**31},
        {"specversion": "0.3"},
        {"datacontenttype": "Application/JSON; charset=utf-8"},
        {"datacontenttype": "text/xml"},
        {"id": None},
        {"time": "2026-01-01T00:00:00"},
        {"data": []},
        {"extra": {"a": 1}},
    ],
    ids=str,
)
def test_the_quick_reader_of_our_own_takes_what_the_careful_one_takes(changed: dict[str, object]) -> None:
    value = json.dumps({**json.loads(encode(enrolled())), **changed}, ensure_ascii=False).encode()
    header = [("content-type", b"application/cloudevents+json")]

    def outcome(*, ours: bool) -> object:
        try:
            return decode(value, header, ours=ours).model_dump()
        except Undecodable as error:
            return error.reason, error.detail

    assert outcome(ours=True) == outcome(ours=False)
