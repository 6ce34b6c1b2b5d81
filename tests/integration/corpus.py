"""What a partner may send that will not do, once, for all its ways in: Kafka, HTTP and a file. Data; no test.

`test_corpus.py` beside it sends each thing through every door that it fits through, and expects the same field and
words there; a fifth partner sends it all to a running stack in `tests/journeys/test_partner.py`.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from contracts.topics import MAX_EVENT_BYTES

COURSE = {"title": {"nb": "Sveising for båtbyggere"}, "subjects": ["bygg"], "studiepoeng": "7.50"}
START, END = "2049-03-01T09:00:00+01:00", "2049-03-05T15:00:00+01:00"
DATES = {"starts_at": START, "ends_at": END, "places": [{"arena": "online", "capacity": 12}]}
# The same in a file: the course, and the run.
COURSE_CELLS = {"code": "SV-1", "title_nb": "Sveising for båtbyggere", "subjects": "bygg", "studiepoeng": "7,5"}
RUN_CELLS = {"offering": "v27", "starts_at": START, "ends_at": END, "arena": "online", "capacity": "12"}


class Bad(NamedTuple):
    """`said` is changed in a good course or run, `cells` in its row; without `cells` a file cannot say it.

    `field` is what HTTP and the intake name, `says` stands in the words at each door. `column` is where a file's
    mistake is told, when that is not `field`; `reason` is the intake's, none where Kafka reads past the field: there
    what is added later must not break who does not know it.
    """

    said: dict[str, Any]
    field: str
    says: str
    cells: dict[str, str] | None = None
    column: str = ""
    reason: str | None = "invalid"


NO_SLUG = "must be 1 to 40 of a-z, 0-9 and hyphens, such as mo-i-rana"
DICTIONARY, LIST = "", ""  # HTTP says "a JSON object", "a JSON list"; Kafka what the models say
LINE = "must be one line"
CONTROL = "must not hold control characters"
READABLE = "must hold a letter or a digit"
LONG = "must be at most 200 characters"
MARKS = "must not hold more than 30 marks on one letter"
NUMBER = "must not hold a national identity number"
TIME = "must be a time"
YEARS = "must be between 2000 and 2100"


def titled(text: str, says: str, *, in_a_file: bool = True) -> Bad:
    cells = {"title_nb": '"' + text.replace('"', '""') + '"'} if in_a_file else None
    return Bad({"title": {"nb": text}}, "title.nb", says, cells, "title_nb")


COURSES: dict[str, Bad] = {
    "no title": Bad({"title": {}}, "title", "at least 1 item", {"title_nb": ""}, "title_nb"),
    "a title in no language": Bad({"title": "Sveis"}, "title", DICTIONARY),
    "a title in an unknown one": Bad({"title": {"de": "Schweißen"}}, "title.de", "'nb'"),
    "a language as nobody writes it": Bad({"title": {"nb\ud7ff\ue000": "Sveis"}}, "title.nb\ud7ff\ue000", "'nb'"),
    "a number as a title": Bad({"title": {"nb": 7}}, "title.nb", "must be a text"),
    "201 letters": titled("x" * 201, LONG),
    "10,000 combining marks": titled("x" + "\u0301\u0489" * 5000, LONG),
    "36,000 marks to be put in order": titled("a" + "\u0301" * 18_000 + "\u0323" * 18_000, MARKS, in_a_file=False),
    "31 marks on one letter": titled("a" + "\u0301" * 31, MARKS),
    "40,000 characters that NFC makes 20,000": titled("e\u0301" * 20_000, LONG),
    "spaces of no width": titled(" \u200b\u200d\ufeff ", READABLE),
    "letters without a shape": titled("\u3164 \u115f\u1160\uffa0", READABLE),
    "punctuation": titled("…!?", READABLE),
    "two lines": titled("to\nlinjer", LINE),
    "two lines of Windows": titled("to\r\nlinjer", LINE),
    "a tab": titled("to\tord", LINE),
    "a line of IBM": titled("to\x85linjer", CONTROL),
    "a line of JavaScript": titled("to\u2028linjer", CONTROL),
    "a direction override": titled("\u202esievS", CONTROL),
    "a direction isolate": titled("\u2067Sveis", CONTROL),
    "a terminal's colour": titled("\x1b[31mSveis", CONTROL),
    "a bell": titled("Sveis\x07", CONTROL),
    "what XML may not hold": titled("Sveis\uffff", CONTROL),
    "somebody's number": titled("Kurs for 15108695088", NUMBER),
    "somebody's number as it is written": titled("Kurs for 151086 95088, oppmøte", NUMBER),
    "a number in the description": Bad({"description": {"nb": "Ring 15108695088"}}, "description.nb", NUMBER),
    "2,001 letters in short": Bad(
        {"summary": {"nb": "x" * 2001}}, "summary.nb", "at most 2000", {"summary_nb": "x" * 2001}, "summary_nb"
    ),
    "8,001 letters": Bad({"description": {"nb": "x" * 8001}}, "description.nb", "at most 8000"),
    "eleven subjects": Bad(
        {"subjects": ["bygg"] * 11}, "subjects", "at most 10 items", {"subjects": ",".join(["bygg"] * 11)}
    ),
    "a subject alone": Bad({"subjects": "bygg"}, "subjects", LIST),
    "a subject with letters of its own": Bad(
        {"subjects": ["Bygg!"]}, "subjects[0]", NO_SLUG, {"subjects": "Bygg!"}, "subjects"
    ),
    "a subject that there is not": Bad(
        {"subjects": ["magi"]},
        "subjects",
        "magi is not a subject; choose of ",
        {"subjects": "magi"},
        reason="unknown_subject",
    ),
    "points as a number": Bad({"studiepoeng": 7.5}, "studiepoeng", "must be a text"),
    "points with a comma": Bad({"studiepoeng": "7,5"}, "studiepoeng", "with a full stop"),
    "points in words": Bad({"studiepoeng": "syv"}, "studiepoeng", "such as", {"studiepoeng": "syv"}),
    "points without end": Bad({"studiepoeng": "1e400"}, "studiepoeng", "such as", {"studiepoeng": "1e400"}),
    "a level that there is not": Bad({"level": "9"}, "level", "'5.1'", {"level": "9"}),
    "a level as a number": Bad({"level": 5.1}, "level", "'5.1'"),
    "an unknown way of teaching": Bad(
        {"delivery_mode": "post"}, "delivery_mode", "'onsite'", {"delivery_mode": "post"}
    ),
    "an unknown language": Bad({"language": "tysk"}, "language", "'nb'", {"language": "tysk"}),
    "half an øre": Bad({"price_ore": 1.5}, "price_ore", "must be a whole number", {"price_ore": "1.5"}),
    "a price in quotes": Bad({"price_ore": "100"}, "price_ore", "must be a whole number"),
    "a price below nothing": Bad({"price_ore": -1}, "price_ore", "must be at least 0"),
    "a price beyond all": Bad({"price_ore": 2**53 + 1}, "price_ore", "must be at most", {"price_ore": "1" * 9}),
    "true as a price": Bad({"price_ore": True}, "price_ore", "must be a whole number"),
    "no price at all": Bad({"price_ore": None}, "price_ore", "must be a whole number"),
    "a number of a person in what one must know": Bad(
        {"prerequisites": {"nb": "Ring 15108695088"}},
        "prerequisites.nb",
        NUMBER,
        {"prerequisites_nb": "Ring 15108695088"},
        "prerequisites_nb",
    ),
    "what one must know without a language": Bad({"prerequisites": "Fagbrev"}, "prerequisites", DICTIONARY),
    "who pays in two lines": Bad(
        {"funded_by": "Fylket\nog staten"}, "funded_by", LINE, {"funded_by": '"Fylket\nog staten"'}
    ),
    "who pays as a list": Bad({"funded_by": ["Fylket"]}, "funded_by", "must be a text"),
    "nobody pays": Bad({"funded_by": " "}, "funded_by", READABLE),
    "a field that there is not": Bad({"titel": {"nb": "Sveis"}}, "titel", "", reason=None),
}
OFFERINGS: dict[str, Bad] = {
    "a day": Bad({"starts_at": "2049-03-01"}, "starts_at", TIME),  # in a file it is the day's beginning
    "no zone": Bad({"starts_at": "2049-03-01T09:00:00"}, "starts_at", TIME),  # in a file it is Oslo's
    "a zone of 25 hours": Bad(
        {"starts_at": "2049-03-01T09:00:00+25:00"}, "starts_at", "", {"starts_at": "2049-03-01T09:00:00+25:00"}
    ),
    "seconds since 1970": Bad({"starts_at": 1800000000}, "starts_at", TIME),
    "milliseconds in quotes": Bad({"starts_at": "1800000000000"}, "starts_at", TIME, {"starts_at": "1800000000000"}),
    "words": Bad({"starts_at": "i morgen"}, "starts_at", TIME, {"starts_at": "i morgen"}),
    "year 0": Bad({"starts_at": "0000-01-01T00:00:00Z"}, "starts_at", "", {"starts_at": "0000-01-01T00:00:00Z"}),
    "year 1": Bad({"starts_at": "0001-01-01T00:00:00+23:59"}, "starts_at", YEARS, {"starts_at": "01.01.0001"}),
    "year 1999": Bad({"starts_at": "1999-12-31T22:59:59Z"}, "starts_at", YEARS, {"starts_at": "31.12.1999 10:00"}),
    "year 9999": Bad(
        {"ends_at": "9999-12-31T23:59:59-23:59"}, "ends_at", YEARS, {"ends_at": "9999-12-31T23:59:59-23:59"}
    ),
    "somebody's number as a room": Bad(
        {"sessions": [{"starts_at": START, "ends_at": "2049-03-01T10:00:00Z", "room": "Rom 2, 15108695088"}]},
        "sessions[0].room",
        NUMBER,
    ),
    "30 February": Bad({"starts_at": "2049-02-30T09:00:00Z"}, "starts_at", "", {"starts_at": "30.02.2049 09:00"}),
    "29 February of a common year": Bad(
        {"starts_at": "2049-02-29T09:00:00Z"}, "starts_at", "", {"starts_at": "2049-02-29T09:00:00Z"}
    ),
    "an end at the start": Bad({"ends_at": START}, "ends_at", "must be after starts_at", {"ends_at": START}),
    "an end before the start": Bad(
        {"ends_at": "2049-02-01T09:00:00Z"}, "ends_at", "must be after starts_at", {"ends_at": "01.02.2049 10:00"}
    ),
    "a meeting that ends as it starts": Bad(
        {"sessions": [{"starts_at": START, "ends_at": START}]}, "sessions[0].ends_at", "must be after its starts_at"
    ),
    "a meeting before the run": Bad(
        {"sessions": [{"starts_at": "2026-12-01T09:00:00Z", "ends_at": "2026-12-01T10:00:00Z"}]},
        "sessions[0].starts_at",
        "must lie between starts_at and ends_at of the run",
        reason="meeting_outside",
    ),
    "a meeting that ends after the run": Bad(
        {
            "sessions": [
                {"starts_at": START, "ends_at": "2049-03-01T10:00:00Z"},
                {"starts_at": "2049-03-05T13:00:00Z", "ends_at": "2049-03-05T14:00:01Z"},
            ]
        },
        "sessions[1].ends_at",
        "must lie between starts_at and ends_at of the run",
        reason="meeting_outside",
    ),
    "no place": Bad({"places": []}, "places", "at least 1 item"),
    "a place twice": Bad({"places": [{"arena": "online", "capacity": 1}] * 2}, "places", "name each arena once"),
    "places by name": Bad({"places": {"online": 12}}, "places", LIST),
    "another partner's arena": Bad(
        {"places": [{"arena": "oslo", "capacity": 1}]},
        "places",
        "oslo is not an arena of this partner; choose of mosjoen, online",
        {"arena": "oslo"},
        "arena",
        "unknown_arena",
    ),
    "an arena as people write it": Bad(
        {"places": [{"arena": "Mo i Rana", "capacity": 1}]},
        "places[0].arena",
        NO_SLUG,
        {"arena": "Mo i Rana"},
        "arena",
    ),
    "seats beyond all": Bad(
        {"places": [{"arena": "online", "capacity": 10**12}]},
        "places[0].capacity",
        "must be at most",
        {"capacity": "999999999"},
        "capacity",
    ),
    "seats in quotes": Bad(
        {"places": [{"arena": "online", "capacity": "12"}]}, "places[0].capacity", "must be a whole number"
    ),
    "seats in words": Bad(
        {"places": [{"arena": "online", "capacity": "tolv"}]},
        "places[0].capacity",
        "must be a whole number",
        {"capacity": "tolv"},
        "capacity",
    ),
    "seats below nothing": Bad(
        {"places": [{"arena": "online", "capacity": -1}]}, "places[0].capacity", "must be at least"
    ),
    "a place's field that there is not": Bad(
        {"places": [{"arena": "online", "capacity": 1, "capasity": 2}]},
        "places[0].capasity",
        "",
        reason=None,
    ),
}
# How seats are given out; a file says nothing of it.
JANUARY = "2049-01-01T00:00:00Z"
DECIDED: dict[str, Any] = {"minimum": 8, "decide_at": "2049-02-15T11:00:00Z"}
RULES: dict[str, Bad] = {
    "decided when it begins": Bad(DECIDED | {"decide_at": START}, "decide_at", "must be before starts_at"),
    "a minimum above all seats": Bad(DECIDED | {"minimum": 13}, "minimum", "must not be more than all places"),
    "a minimum of nobody": Bad(DECIDED | {"minimum": 0}, "minimum", "must be at least 1"),
    "a minimum never decided": Bad({"minimum": 8}, "decide_at", "need each other"),
    "nothing to decide": Bad({"decide_at": JANUARY}, "minimum", "need each other"),
    "ask somebody": Bad({"on_too_few": "ask"}, "on_too_few", "'hold'"),
    "a period of no time": Bad(
        {"periods": [{"opens_at": JANUARY, "closes_at": JANUARY}]}, "periods[0].closes_at", "must be after its opens_at"
    ),
    "a group as people write it": Bad(
        {"periods": [{"group": "Ansatte!", "opens_at": JANUARY, "closes_at": START}]}, "periods[0].group", NO_SLUG
    ),
    "late before it begins": Bad({"late_enrolment_until": JANUARY}, "late_enrolment_until", "must be after starts_at"),
    "a group twice": Bad({"priority_groups": ["ansatte"] * 2}, "priority_groups", "name each group once"),
    "an offer of no time": Bad({"offer_hours": 0}, "offer_hours", "must be at least 1"),
    "an offer of a month": Bad({"offer_hours": 400}, "offer_hours", "must be at most 336"),
    "a reminder when it is over": Bad({"reminder_days": [0]}, "reminder_days[0]", "must be at least 1"),
    "a reminder a year before": Bad({"reminder_days": [365]}, "reminder_days[0]", "must be at most 60"),
    "a reminder every day": Bad({"reminder_days": [4, 3, 2, 1]}, "reminder_days", "at most 3"),
    "a reminder twice": Bad({"reminder_days": [7, 7]}, "reminder_days", "name each day once"),
    "to the front": Bad({"on_lapse": "front"}, "on_lapse", "'leave'"),
    "yes": Bad({"requires_approval": "yes"}, "requires_approval", "must be true or false"),
}


class Unreadable(NamedTuple):
    """Bytes where an object should be: `reason` is the intake's; HTTP names the whole `body`."""

    body: bytes
    reason: str


BODIES: dict[str, Unreadable] = {
    "cut short": Unreadable(b'{"title": {"nb": "Sveis"', "not_json"),
    "nothing but text": Unreadable(b"title=Sveis", "not_json"),
    "two values": Unreadable(b"{} {}", "not_json"),
    "a name twice": Unreadable(b'{"title": {"nb": "Sveis", "nb": "Saum"}}', "invalid"),
    "NUL": Unreadable(b'{"title": {"nb": "Sveis\\u0000"}}', "invalid"),
    "half a character": Unreadable(b'{"title": {"nb": "Sveis\\ud83d"}}', "invalid"),
    "half a character as a name": Unreadable(b'{"\\udc00": 1}', "invalid"),
    "not UTF-8": Unreadable(b'{"title": {"nb": "Sveis\xff"}}', "not_utf8"),
    "UTF-16": Unreadable('{"title": {"nb": "Sveis"}}'.encode("utf-16"), "not_utf8"),
    "a byte order mark": Unreadable(b'\xef\xbb\xbf{"title": {"nb": "Sveis"}}', "not_json"),
    "a number without end": Unreadable(b'{"price_ore": ' + b"9" * 5000 + b"}", "invalid"),
    "more than 64 bits": Unreadable(b'{"price_ore": 9223372036854775808}', "invalid"),
    "1e400": Unreadable(b'{"price_ore": 1e400}', "invalid"),
    "NaN": Unreadable(b'{"price_ore": NaN}', "not_json"),
    "too deep": Unreadable(b"[" * 5000 + b"]" * 5000, "invalid"),
    "a list": Unreadable(b"[]", "invalid"),
    "a text": Unreadable(b'"x"', "invalid"),
    "a number": Unreadable(b"7", "invalid"),
    "null": Unreadable(b"null", "invalid"),
}
MEGABYTE = b'{"title": {"nb": "' + b"x" * 1_000_000 + b'"}}'
ONE_BYTE_OVER = b" " * (MAX_EVENT_BYTES + 1)


class Envelope(NamedTuple):
    """What stands around a course on Kafka alone: `said` is changed in a good event; `reason` none: it is taken."""

    said: dict[str, Any]
    reason: str | None
    field: str = ""
    headers: tuple[tuple[str, bytes], ...] = ()
    key: bytes | None = b"SV-1"


ENVELOPES: dict[str, Envelope] = {
    "a type that there is not": Envelope({"type": "no.kursnett.partner.CourseRenamed.v1"}, "unknown_type", "type"),
    "a service's own type": Envelope({"type": "no.kursnett.catalogue.CourseCreated.v1"}, "unknown_type", "type"),
    "a version to come": Envelope({"type": "no.kursnett.partner.CoursePublished.v9"}, "unknown_version", "type"),
    "another partner": Envelope({"source": "/partners/torgar"}, "foreign_source", "source"),
    "a service": Envelope({"source": "/catalogue"}, "foreign_source", "source"),
    "another's course in the body": Envelope({"data": {"partner": "torgar", "code": "SV-1", **COURSE}}, None),
    "another CloudEvents": Envelope({"specversion": "2.0"}, "invalid", "specversion"),
    "no id": Envelope({"id": ""}, "invalid", "id"),
    "an id of 201": Envelope({"id": "x" * 201}, "invalid", "id"),
    "a line in the id": Envelope({"id": "a\nb"}, "invalid", "id"),
    "an id as a number": Envelope({"id": 7}, "invalid", "id"),
    "XML": Envelope({"datacontenttype": "text/xml"}, "invalid", "datacontenttype"),
    "no data": Envelope({"data": None}, "invalid", "data"),
    "data in a text": Envelope({"data": "{}"}, "invalid", "data"),
    "a code with spaces": Envelope({"data": {"code": "sv 1", **COURSE}}, "invalid", "code"),
    "a code of 61": Envelope({"data": {"code": "x" * 61, **COURSE}}, "invalid", "code"),
    "a numbering below nothing": Envelope({"data": {"code": "SV-1", "seq": -1, **COURSE}}, "invalid", "seq"),
    "a numbering that goes back": Envelope({"seq": 7, "aggregate": "course/1", "epoch": 1}, None),
    "a time without a zone": Envelope({"time": "2049-01-04T12:00:00"}, "invalid", "time"),
    "headers that lie": Envelope(
        {}, None, headers=(("content-type", b"text/\xff"), ("reply_to", b"catalogue.courses"), ("correlation_id", b"1"))
    ),
    "a hundred headers of a kilobyte": Envelope({}, None, headers=tuple((f"h{n}", b"x" * 1024) for n in range(100))),
    "an attribute twice": Envelope({}, "invalid", "ce_id", headers=(("ce_id", b"1"), ("CE_ID", b"2"))),
    "an attribute that is not UTF-8": Envelope({}, "not_utf8", "ce_type", headers=(("ce_type", b"\xff"),)),
    "no key": Envelope({}, None, key=None),
    "another course's key": Envelope({}, None, key=b"SV-2"),
    "a key of two kilobytes": Envelope({}, "too_large", "key", key=b"k" * 2048),
}
# A cell that a spreadsheet would run is a mistake in a file; over HTTP and Kafka the same text is text.
FORMULAS = ("=1+1", "+47 751", "-7", "@SUM(A1)")
# Strange, and right: kept to the letter (in NFC), at every door.
TITLES: dict[str, str] = {
    "SQL": "'; DROP TABLE courses; --",
    "HTML": "<script>alert(1)</script><b>x</b>",
    "a template": "{{7*7}} ${7*7} {0.__class__}",
    "the letters of Sámi": "ŋ đ ï ŧ ž: åarjelsaemien",
    "written apart": "A\u030angstr\u00f8m og n\u030a\u0308",
    "Turkish and German": "İstanbul, Straße, ıI",
    "Cyrillic that looks Latin": "Kurs \u0430\u0435\u043e",
    "an emoji of several": "Kurs 👩🏽‍🔧",
    "quotes": 'Å si "nei"; og «ja»',
    "eleven digits that are nobody's": "Kontonummer 12345678901",
    "a backslash": "C:\\kurs\\n",
}


def event(partner: str, kind: str, data: Any, **changed: Any) -> dict[str, Any]:
    """A good event of this partner, but for what is changed."""
    about = {"id": str(uuid.uuid4()), "source": f"/partners/{partner}"}
    return {"specversion": "1.0", **about, "type": f"no.kursnett.partner.{kind}.v1", "data": data} | changed


class Wrong(NamedTuple):
    """A record that is refused, with the reason that its partner is told."""

    name: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    reason: str


def records(partner: str) -> Iterator[Wrong]:
    """Everything in the corpus that is refused over Kafka; the course SV-1 must be there."""
    for kind, address, good, bad in (
        ("CoursePublished", {"code": "SV-1"}, COURSE, COURSES),
        ("OfferingPublished", {"course_code": "SV-1", "key": "v27"}, DATES, OFFERINGS | RULES),
    ):
        for name, one in bad.items():
            if one.reason is not None:
                value = json.dumps(event(partner, kind, {**address, **good, **one.said})).encode()
                yield Wrong(name, b"SV-1", value, (), one.reason)
    whole = json.dumps(event(partner, "CoursePublished", "HERE")).encode()
    for name, body in BODIES.items():
        yield Wrong(name, b"SV-1", whole.replace(b'"HERE"', body.body), (), body.reason)
    for name, around in ENVELOPES.items():
        if around.reason is not None:
            said = event(partner, "CoursePublished", {"code": "SV-1", **COURSE}) | around.said
            yield Wrong(name, around.key, json.dumps(said).encode(), around.headers, around.reason)
    yield Wrong("a tombstone", b"SV-1", None, (), "empty")
    yield Wrong("one byte too many", b"SV-1", ONE_BYTE_OVER, (), "too_large")
