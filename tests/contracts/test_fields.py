"""Text, study points, slugs and times keep their limits, and say in words what is wrong."""

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from contracts.envelope import Envelope, words_of
from contracts.fields import Code, Instant, Line, Place, Prose, Session, Slug, StudyPoints, Summary, clean
from contracts.partner import CoursePublished, CourseRetracted, OfferingPublished, OfferingRetracted

COURSE = {"code": "HELSE-101", "title": {"nb": "Trygg bruk av legemidler"}}
OFFERING = {
    "course_code": "HELSE-101",
    "key": "V27",
    "starts_at": "2027-02-01T17:00:00+01:00",
    "ends_at": "2027-04-12T20:00:00+02:00",
    "places": [{"arena": "online", "capacity": 40}],
}


def read(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind).validate_python(value)


def refusal(kind: Any, value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in caught.value.errors())


@pytest.mark.parametrize(
    "letter", ["\x00", "\x07", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\uffff", "\ud83d"]
)
@pytest.mark.parametrize("kind", [Line, Summary, Prose])
def test_control_characters_and_direction_overrides_are_refused(kind: Any, letter: str) -> None:
    assert "control characters" in refusal(kind, f"Kurs{letter}i ledelse")


def test_text_is_kept_in_one_form() -> None:
    assert read(Line, "  A\u030arsm\u00f8te \u00a0") == "\u00c5rsm\u00f8te"
    assert read(Prose, "En\r\nto\rtre\n") == "En\nto\ntre"
    assert read(Line, "Åarjelsaemien gïele 🇳🇴") == "Åarjelsaemien gïele 🇳🇴"


@pytest.mark.parametrize("text", ["", "   ", "\u200b", "\u2060\ufeff", "…", "to\nlinjer", "to\rlinjer", "tab\tlinje"])
def test_a_line_is_one_line_with_something_to_read(text: str) -> None:
    assert "must" in refusal(Line, text)


@pytest.mark.parametrize(("kind", "most"), [(Line, 200), (Summary, 2_000), (Prose, 8_000)])
def test_a_text_may_be_as_long_as_its_limit_after_normalising(kind: Any, most: int) -> None:
    assert len(read(kind, "å" * most)) == most
    assert len(read(kind, "a\u030a" * most)) == most  # twice as many characters come in
    assert refusal(kind, "å" * (most + 1)) == f": Value error, must be at most {most} characters"
    # One character that NFC makes three of: counted before, the limit would not hold.
    assert "at most" in refusal(kind, "a" + "\U0001d160" * (most // 2))
    assert TypeAdapter(kind).json_schema()["maxLength"] == most


@given(st.text(max_size=100))
def test_clean_text_is_clean(text: str) -> None:
    try:
        once = clean(text)
    except ValueError:
        return
    assert clean(once) == once
    assert "\x00" not in once
    once.encode()


@pytest.mark.parametrize(
    ("written", "kept"),
    [("7.5", "7.5"), ("7.50", "7.5"), ("10", "10"), ("10.0", "10"), ("100", "100"), ("100.00", "100"), ("0", "0"),
     ("0.0", "0"), ("007.5", "7.5"), ("7.1", "7.1"), ("999.99", "999.99")],
)  # fmt: skip
def test_study_points_are_kept_in_one_form(written: str, kept: str) -> None:
    assert read(StudyPoints, written) == kept
    assert read(StudyPoints, kept) == kept


def test_a_comma_is_told_to_be_a_full_stop() -> None:
    course = {**COURSE, "studiepoeng": "7,5"}
    assert (
        refusal(CoursePublished, course) == 'studiepoeng: Value error, must be written with a full stop, such as "7.5"'
    )


@pytest.mark.parametrize(
    "written", ["", "7.", ".5", "-7.5", "7.555", "1000", "1e3", "NaN", "seven", "٧", "7.5 ", "7,5,5"]
)
def test_other_study_points_are_told_how_to_be_written(written: str) -> None:
    assert refusal(StudyPoints, written) == ': Value error, must be a number of study points such as "7.5"'


@pytest.mark.parametrize("number", [7.5, 7, True])
def test_study_points_are_text(number: object) -> None:
    assert "valid string" in refusal(StudyPoints, number)


@pytest.mark.parametrize("slug", ["a", "mo-i-rana", "x2", "a" * 40])
def test_a_slug(slug: str) -> None:
    assert read(Slug, slug) == slug


@pytest.mark.parametrize(
    "slug", ["", "-a", "a-", "Mo", "mo i rana", "brønnøysund", "a_b", "a.b", "a" * 41, "a\n", "a/b"]
)
def test_not_a_slug(slug: str) -> None:
    assert "pattern" in refusal(Slug, slug)


@pytest.mark.parametrize("code", ["", "-1", "a b", "a/b", "å1", "a" * 61, "a\n", "a;b"])
def test_not_a_code(code: str) -> None:
    assert "pattern" in refusal(Code, code)


def test_a_time_is_kept_in_utc() -> None:
    assert read(Instant, "2026-10-25T02:30:00+01:00") == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert (
        json.loads(TypeAdapter(Instant).dump_json(read(Instant, "2026-03-29T03:00:00+02:00"))) == "2026-03-29T01:00:00Z"
    )


@pytest.mark.parametrize(
    "written",
    ["2027-02-01T17:00:00", "2027-02-01", "17:00", "1800000000", 1_800_000_000, 1e300, True, "", "2027-02-30T17:00:00Z",
     "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "1999-12-31T23:59:59Z", "2099-12-31T23:30:00-01:00",
     "0026-02-01T17:00:00Z", None],
)  # fmt: skip
def test_a_time_that_nobody_can_know_is_refused(written: object) -> None:
    refusal(Instant, written)


def test_a_course_with_one_title_is_enough() -> None:
    read(CoursePublished, COURSE)


def test_a_subject_that_stands_twice_counts_once() -> None:
    assert read(CoursePublished, {**COURSE, "subjects": ["helse", "bygg", "helse"]}).subjects == ["helse", "bygg"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"title": {}}, "title: "),
        ({"title": {"sv": "Kurs"}}, "title.sv.[key]: Input should be 'nb', 'nn', 'en', 'sma' or 'sme'"),
        ({"title": "Kurs"}, "title: "),
        ({"level": "5"}, "level: "),
        ({"price_ore": -1}, "price_ore: "),
        ({"price_ore": 1990.0}, "price_ore: "),
        ({"price_ore": "1990"}, "price_ore: "),
        ({"price_ore": True}, "price_ore: "),
        ({"price_ore": 10**30}, "price_ore: "),
        ({"seq": -1}, "seq: "),
        ({"seq": 2**63}, "seq: "),
        ({"seq": True}, "seq: "),
        ({"subjects": ["helse"] * 11}, "subjects: "),
        ({"subjects": ["Helse"]}, "subjects.0: "),
        ({"code": None}, "code: "),
    ],
)
def test_a_course_is_refused_by_the_name_of_its_field(change: dict[str, Any], says: str) -> None:
    assert refusal(CoursePublished, {**COURSE, **change}).startswith(says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ends_at": "2027-02-01T17:00:00+01:00"}, "ends_at: must be after starts_at"),
        ({"places": []}, "places: "),
        ({"places": [{"arena": "online", "capacity": 1}] * 2}, "places: must name each arena once"),
        ({"places": [{"arena": "online", "capacity": -1}]}, "places.0.capacity: "),
        ({"places": [{"arena": "online", "capacity": 1.0}]}, "places.0.capacity: "),
        ({"places": [{"arena": "Online", "capacity": 1}]}, "places.0.arena: "),
        (
            {"sessions": [{"starts_at": "2027-02-01T20:00:00+01:00", "ends_at": "2027-02-01T17:00:00+01:00"}]},
            "sessions.0.ends_at: must be after its starts_at",
        ),
    ],
)
def test_an_offering_is_refused_with_what_to_mend(change: dict[str, Any], says: str) -> None:
    assert says in refusal(OfferingPublished, {**OFFERING, **change})


def test_unknown_fields_of_parts_are_passed_over() -> None:
    assert read(Place, {"arena": "online", "capacity": 3, "floor": 2}) == Place(arena="online", capacity=3)
    session = {"starts_at": "2027-02-01T17:00:00Z", "ends_at": "2027-02-01T18:00:00Z", "teacher": "?"}
    assert read(Session, session).room is None


def test_no_letter_that_a_text_may_hold_takes_more_than_four_bytes() -> None:
    # What the size of the largest event is reckoned from.
    for number in range(0x10000):
        try:
            letter = clean(f"a{chr(number)}a")[1:-1]
        except ValueError:
            continue
        assert len(to_json(letter)) - 2 <= 4 * len(letter), hex(number)


@pytest.mark.parametrize(
    "marks",
    ["\u0301" * 30_000 + "\u0323" * 30_000, "\u0301\u0323" * 30_000, "\u0f73" * 30_000, "\u0301" * 31],
    ids=["two sorts", "in turn", "made of two", "one too many"],
)
def test_marks_without_end_are_refused_before_they_are_put_in_order(marks: str) -> None:
    """Python puts them in order in the square of their number: these took up to 7 s, in which a service did no more."""
    began = time.process_time()
    assert "more than 30 marks on one letter" in refusal(Prose, f"a{marks}")
    assert time.process_time() - began < 0.5


def test_letters_with_all_the_marks_that_any_language_has_are_text() -> None:
    for text in ("Å" * 100, "\u0e01\u0e34\u0e48" * 40, "e\u0301\u0323" * 40, "学" * 100, "a" + "\u0301" * 30):
        assert read(Line, text)


# Every kind of value that a partner's program may send by mistake, tried in every field.
MISTAKEN: list[Any] = [
    None, True, -1, 0, 1.5, 10**9, 1e30, "", " ", "7,5", "1000", "ja", "x" * 9_000, "\x00", "2027-02-01", [], {}, [1],
    [[]], [61], [1, 1], [1, 2, 3, 4], ["x"] * 400, ["Ø"], {"nb": 1}, {"sv": "Kurs"}, "2027-02-01T17:00:00",
    "2027-13-01T17:00:00Z", "2027-02-30T17:00:00Z", "2027-02-01T25:00:00Z", "2027-02-01T17:00:00+99:00",
    "2027-02-01T17:00:00Zx", "9999-01-01T00:00:00Z", [{"arena": "online"}], [{"arena": 1, "capacity": "1"}],
    [{"arena": "Online", "capacity": 10**7}], [{"starts_at": "2027-02-01T17:00:00", "ends_at": 5, "room": 7}],
    [{"group": "Ø", "opens_at": None, "closes_at": ""}],
]  # fmt: skip
PYDANTICS = re.compile(r"Input|String|List|Dictionary|Unable|should|valid|pattern|parse|validation")


def test_whatever_is_wrong_is_told_in_plain_words() -> None:
    """Red control: `Input should be a valid string`, `List should have at most 10 items after validation, not 400`."""
    envelope = {"id": "1", "source": "/partners/nesna", "type": "t", "data": {}}
    whole: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (CoursePublished, COURSE),
        (OfferingPublished, OFFERING),
        (CourseRetracted, {"code": "A"}),
        (OfferingRetracted, {"course_code": "A", "key": "v27"}),
        (Envelope, envelope),
    ]
    told: set[str] = set()
    for model, good in whole:
        for name in model.model_fields:
            for value in MISTAKEN:
                try:
                    model.model_validate({**good, name: value})
                except ValidationError as error:
                    told |= {words_of(one) for one in error.errors()}
    assert len(told) > 30
    assert [words for words in sorted(told) if PYDANTICS.search(words)] == []
