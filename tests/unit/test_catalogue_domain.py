"""The catalogue's pure rules, and what its addresses make of headers, bodies and broken rules."""

from typing import Annotated, get_args

import asyncpg
import pytest
from pydantic import TypeAdapter, ValidationError

from contracts.fields import NkrLevel
from contracts.partner import CourseText, OfferingDates, names_somebody
from kit import problems
from kit.bodies import Whole
from services.catalogue import api, domain, line
from services.catalogue.domain import Rule


def test_each_norwegian_level_has_its_european_one_and_a_part_of_a_level_that_of_the_whole() -> None:
    levels = get_args(NkrLevel)
    assert {"4A", "4B", "5.1", "5.2"} <= set(levels)
    european = {level: domain.eqf(level) for level in levels}
    assert (european["4A"], european["4B"], european["5.1"], european["5.2"]) == (4, 4, 5, 5)
    assert all(str(european[level]) == level[0] for level in levels)
    assert domain.eqf(None) is None, "most short courses have none, and none is guessed"
    for level in levels:
        assert CourseText.model_validate({"title": {"nb": "Sveis"}, "level": level}).level == level


def test_an_unknown_subject_is_refused_with_the_list() -> None:
    domain.known_subjects(["helse"], ["bygg", "helse"])
    with pytest.raises(Rule, match="magi is not a subject; choose of bygg, helse"):
        domain.known_subjects(["helse", "magi"], ["bygg", "helse"])


def test_another_partners_arena_is_refused_with_the_list() -> None:
    domain.own_arenas(["online"], ["online", "mosjoen"])
    with pytest.raises(Rule, match=r"oslo is not an arena of this partner; choose of mosjoen, online$"):
        domain.own_arenas(["oslo"], ["online", "mosjoen", "online"])  # its own, and those of the run as it is


@pytest.mark.parametrize(
    ("known", "news"),
    [
        ("none", {"at_risk", "too_few", "confirmed"}),
        ("at_risk", {"too_few", "confirmed"}),
        ("too_few", {"confirmed"}),  # on hold, until enough have come
        ("confirmed", set()),  # people were told that it takes place
    ],
)
def test_a_judgement_is_news_when_it_goes_beyond_what_is_known(known: str, news: set[str]) -> None:
    assert {one for one in ("at_risk", "too_few", "confirmed") if domain.says_more(one, known)} == news


@pytest.mark.parametrize(
    ("tag", "versions"),
    [
        (None, None),
        ("*", "*"),
        ('"3"', {3}),
        ('W/"12"', {12}),
        ('"3", W/"12","x"', {3, 12}),
        ('"0"', set()),
        ("", set()),
        ('"x"', set()),
        ("9" * 4000, set()),
        ("\u00b2", set()),
    ],
)
def test_an_if_match_that_is_not_ours_matches_nothing(tag: str | None, versions: object) -> None:
    assert api.version_of(tag) == versions


def test_what_must_be_new_and_be_there_is_neither() -> None:
    assert api.version_of(None, "*") == frozenset({0})
    assert api.version_of('"1"', "*") == frozenset()


READ = TypeAdapter(Annotated[CourseText, Whole()])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": {"nb": "Sveis"}, "studiepoeg": "7.5"}, "studiepoeg"),
        ({"title": {"xx": "Sveis"}}, "title.xx"),
        ({"title": {"nb": "Sveis"}, "price_ore": "100"}, "price_ore"),
        ({}, "title"),
        ([], "body"),
    ],
)
def test_a_wrong_field_is_named(body: object, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        READ.validate_python(body)
    told = problems.invalid([{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()])
    assert [error["field"] for error in told.extensions["errors"]] == [field]


def test_a_misspelt_field_inside_a_part_is_named_and_the_schema_says_so() -> None:
    reader = TypeAdapter(Annotated[OfferingDates, Whole()])
    times = {"starts_at": "2027-03-01T09:00:00+01:00", "ends_at": "2027-03-05T15:00:00+01:00"}
    body = {**times, "places": [{"arena": "online", "capacity": 1, "capasity": 2}]}
    with pytest.raises(ValidationError) as caught:
        reader.validate_python(body)
    assert [error["loc"] for error in caught.value.errors()] == [("places", 0, "capasity")]
    whole = reader.json_schema()
    assert all(part["additionalProperties"] is False for part in (whole, *whole["$defs"].values()))
    # The control: as a partner's event the same is read, and its schema does not close it.
    assert OfferingDates.model_validate(body).places[0].capacity == 1
    assert "additionalProperties" not in OfferingDates.model_json_schema()


@pytest.mark.parametrize(
    ("code", "status"), [("stale", 412), ("unknown_course", 404), ("offering_cancelled", 409), ("unknown_arena", 422)]
)
def test_a_broken_rule_is_told_by_its_status(code: str, status: int) -> None:
    assert api.refused(Rule(code, "places", "words")).status == status


OUTDATED = (
    "lacks what this version needs. To bring it up to date, start the stack anew: kursnett down, kursnett up; "
    "in containers, run this service's migrate."
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Rule("partner_exists", "slug", "x is a partner already"), "x was not added: x is a partner already."),
        (ConnectionRefusedError(), "x was not added: the database does not answer. Start it, then run this again."),
        (asyncpg.InvalidPasswordError(), "x was not added: the database says InvalidPasswordError."),
        (asyncpg.UndefinedTableError(), f"x was not added: the database {OUTDATED}"),
        (asyncpg.UndefinedColumnError(), f"x was not added: the database {OUTDATED}"),
    ],
)
def test_what_an_operator_can_mend_is_one_sentence(error: Exception, words: str) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        line.end(fail(), "x was not added")
    assert caught.value.code == words


@pytest.mark.parametrize("between", ["", " ", "\u00a0", "\u202f", "-"])
def test_a_national_identity_number_is_seen_however_it_is_grouped(between: str) -> None:
    assert names_somebody(f"Lærer 151086{between}95088 er syk")
    assert not names_somebody(f"Telefon 151086{between}95089")
