"""Whatever bytes a stranger sends, reading them ends in an event or in `Undecodable` with a reason: nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.envelope import Envelope, Undecodable, decode
from contracts.golden import HERE
from contracts.strict import MAX_DEPTH, MAX_INTEGER
from contracts.topics import MAX_EVENT_BYTES

SECRET = "kari-nordmann"  # stands in every bad value, and in no detail
REASONS = {"empty", "too_large", "not_utf8", "not_json", "invalid"}
Headers = list[tuple[str, bytes | None]]
BINARY: Headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"), ("ce_type", b"x")]


def event(data: str) -> bytes:
    """A structured event around this text, which is put in as it is."""
    return b'{"specversion":"1.0","id":"1","source":"/x","type":"x","data":' + data.encode("utf-8") + b"}"


def refused(value: bytes | None, headers: Headers) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode(value, headers)
    assert caught.value.reason in REASONS
    assert SECRET not in caught.value.detail
    assert len(caught.value.detail) < 1000
    return caught.value


FINE = f'{{"name": "{SECRET}"}}'
# data as it lies in the value -> reason: in structured mode inside an event, in binary mode alone.
BAD_DATA: dict[str, tuple[str, str]] = {
    "cut short": (f'{{"name": "{SECRET}', "not_json"),
    "comma too many": (f'{{"name": "{SECRET}",}}', "not_json"),
    "single quotes": (f"{{'name': '{SECRET}'}}", "not_json"),
    "nothing": ("", "not_json"),
    "raw NUL": (f'{{"name": "{SECRET}\x00"}}', "not_json"),
    "raw newline": (f'{{"name": "{SECRET}\n"}}', "not_json"),
    "NaN": (f'{{"{SECRET}": NaN}}', "not_json"),
    "Infinity": (f'{{"{SECRET}": -Infinity}}', "not_json"),
    "1e400": (f'{{"{SECRET}": 1e400}}', "invalid"),
    "-1e400 in a list": (f'{{"{SECRET}": [-1e400]}}', "invalid"),
    "20 digits": (f'{{"{SECRET}": {MAX_INTEGER + 1}}}', "invalid"),
    "200,000 digits": (f'{{"{SECRET}": {"9" * 200_000}}}', "invalid"),
    "escaped NUL": (f'{{"name": "{SECRET}\\u0000"}}', "invalid"),
    "escaped NUL in a name": (f'{{"{SECRET}\\u0000": 1}}', "invalid"),
    "high surrogate alone": (f'{{"name": "{SECRET}\\ud83d"}}', "invalid"),
    "low surrogate alone": (f'{{"name": ["{SECRET}\\uDE00"]}}', "invalid"),
    "surrogate in a name": (f'{{"{SECRET}\\ud83d": 1}}', "invalid"),
    "one name twice": (f'{{"code": "a", "code": "{SECRET}"}}', "invalid"),
    "one name twice, escaped": (f'{{"code": "a", "\\u0063ode": "{SECRET}"}}', "invalid"),
    "one name twice, deep": (f'{{"a": [{{"code": "a", "code": "{SECRET}"}}]}}', "invalid"),
    "100,000 deep": ("[" * 100_000 + "]" * 100_000, "invalid"),
    "100,000 deep and open": ('{"a":' * 50_000, "invalid"),
    "a little too deep": ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "invalid"),
    "a list": (f'["{SECRET}"]', "invalid"),
    "a text": (f'"{SECRET}"', "invalid"),
    "null": ("null", "invalid"),
    "100,000 names": (json.dumps({f"{SECRET}{n}": n for n in range(100_000)}), "too_large"),
    "a megabyte": (f'{{"name": "{SECRET * 80_000}"}}', "too_large"),
}
BAD_VALUES: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "empty"),
    "no bytes": (b"", "empty"),
    "not UTF-8": (event(FINE).replace(b"name", b"n\xffme"), "not_utf8"),
    "Latin-1": (event(FINE.replace("name", "bl\xe5")).decode().encode("latin-1"), "not_utf8"),
    "surrogates as bytes": (event(FINE).replace(b"name", b"\xed\xa0\xbd\xed\xb8\x80"), "not_utf8"),
    "overlong": (event(FINE).replace(b"name", b"\xc0\xaf"), "not_utf8"),
    "UTF-16 with its mark": (event(FINE).decode().encode("utf-16"), "not_utf8"),
    "UTF-16": (event(FINE).decode().encode("utf-16-le"), "not_json"),
    "UTF-32": (event(FINE).decode().encode("utf-32-be"), "not_json"),
    "byte order mark": (b"\xef\xbb\xbf" + event(FINE), "not_json"),
    "gzip": (bytes.fromhex("1f8b0800000000000003ab562a2e29cacc4b0700"), "not_utf8"),
    "Avro with a schema id": (b"\x00\x00\x00\x00\x07\x02a", "not_json"),
    "two events": (event(FINE) * 2, "not_json"),
    "a number": (b"7", "invalid"),
    "an empty list": (b"[]", "invalid"),
    "an empty object": (b"{}", "invalid"),
    "white space": (b" \n\t ", "not_json"),
    "data alone": (FINE.encode(), "invalid"),
    "an attribute twice": (event(FINE)[:-1] + b',"id":"2"}', "invalid"),
    "data_base64": (event(FINE).replace(b'"data"', b'"data_base64"'), "invalid"),
}


def test_the_corpus_is_bad_for_its_own_reason_alone() -> None:
    assert decode(event(FINE), []).data == {"name": SECRET}
    assert decode(FINE.encode(), BINARY).data == {"name": SECRET}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_bytes_are_refused_with_their_reason(name: str) -> None:
    value, reason = BAD_VALUES[name]
    assert refused(value, []).reason == reason
    assert refused(value, [("content-type", b"application/cloudevents+json"), ("reply_to", b"x")]).reason == reason


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused_in_both_modes(name: str) -> None:
    data, reason = BAD_DATA[name]
    assert refused(event(data), []).reason == reason
    # With no value at all there is nothing to be wrong with.
    assert refused(data.encode(), BINARY).reason == (reason if data else "empty")


@pytest.mark.parametrize("content_type", [b"application/json", b"application/avro", b"text/csv", None])
def test_a_lying_content_type_changes_nothing(content_type: bytes | None) -> None:
    assert refused(b"{", [("content-type", content_type)]).reason == "not_json"
    assert refused(b"{", [*BINARY, ("content-type", content_type)]).reason == "not_json"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("ce_id", b"\xff")], "not_utf8"),
        ([("ce_subject", b"\xe5")], "not_utf8"),
        ([("ce_whatever", b"\xff")], "not_utf8"),
        ([("ce_id", None)], "invalid"),
        ([("ce_subject", None)], "invalid"),
        ([("ce_id", b"2"), ("CE_ID", b"3")], "invalid"),
        ([("ce_id", b"")], "invalid"),
        ([("ce_type", b"x\x00")], "invalid"),
        ([("ce_specversion", b"0.3")], "invalid"),
        ([("ce_specversion", b"1")], "invalid"),
        ([("ce_datacontenttype", b"application/avro")], "invalid"),
        ([("ce_time", b"1795000000")], "invalid"),
        ([("ce_seq", b"many")], "invalid"),
        ([(f"ce_{SECRET}@example.no", None)], "invalid"),
    ],
)
def test_bad_headers_are_refused(headers: Headers, reason: str) -> None:
    named = {name.lower() for name, _ in headers}
    others = [(name, value) for name, value in BINARY if name not in named]
    assert refused(FINE.encode(), [*others, *headers]).reason == reason


@pytest.mark.parametrize("missing", ["ce_id", "ce_source", "ce_type"])
def test_a_missing_attribute_is_named(missing: str) -> None:
    headers = [(name, value) for name, value in BINARY if name != missing]
    assert refused(FINE.encode(), headers).detail == f"{missing[3:]}: is missing"


def test_a_header_called_data_does_not_stand_for_the_value() -> None:
    assert decode(FINE.encode(), [*BINARY, ("ce_data", b"other")]).data == {"name": SECRET}


@pytest.mark.parametrize(
    "data",
    [
        "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2),
        str(MAX_INTEGER),
        str(-MAX_INTEGER),
        "-0",
        "1.7976931348623157e308",
        "5e-324",
        '"\\ud83d\\ude00 \\u00e5"',
        '"\\u0007"',
        '"[[[[{{{{"',
        '"' + "[" * 100_000 + '"',
    ],
    ids=lambda data: data[:30],
)
def test_what_every_reader_takes_alike_is_let_in(data: str) -> None:
    assert decode(event(f'{{"a": {data}}}'), []).data == {"a": json.loads(data)}


def test_a_value_of_the_largest_size_is_let_in_and_one_byte_more_is_not() -> None:
    room = MAX_EVENT_BYTES - len(event('{"a":""}'))
    assert decode(event(f'{{"a":"{"x" * room}"}}'), []).data == {"a": "x" * room}
    assert refused(event(f'{{"a":"{"x" * (room + 1)}"}}'), []).reason == "too_large"


def read_or_refuse(value: bytes | None, headers: Headers) -> None:
    try:
        envelope = decode(value, headers)
    except Undecodable as error:
        seen = error.reason
    else:
        envelope.model_dump_json().encode()
        seen = "read"
    assert seen in REASONS | {"read"}


names = (
    st.sampled_from(["ce_id", "ce_type", "CE_Source", "ce_specversion", "ce_seq", "ce_time", "content-type"])
    | st.text()
)
headers_of_any_kind = st.lists(st.tuples(names, st.none() | st.binary() | st.sampled_from([b"1.0", b"x"])), max_size=6)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=10,
)


@given(st.none() | st.binary(max_size=2000), headers_of_any_kind)
@example(b"{", [("ce_\ud800", None), ("ce_id", b"1")])
def test_any_bytes_and_headers(value: bytes | None, headers: Headers) -> None:
    read_or_refuse(value, headers)


@given(st.dictionaries(st.sampled_from([*Envelope.model_fields, "other"]), anything))
def test_any_json_under_the_attributes_names(shown: dict[str, Any]) -> None:
    read_or_refuse(json.dumps(shown).encode(), [])
    read_or_refuse(json.dumps(shown.get("data")).encode(), BINARY)


@given(st.sampled_from(sorted((HERE / "examples").glob("*/*.json"))), st.integers(0, 5000), st.binary(max_size=4))
def test_a_damaged_event(path: Path, where: int, damage: bytes) -> None:
    whole = path.read_bytes()
    where %= len(whole)
    read_or_refuse(whole[:where] + damage + whole[where + 1 :], [])
