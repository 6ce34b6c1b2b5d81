"""The catalogue's pure rules, and what its addresses make of headers, bodies and broken rules."""

import json

import asyncpg
import pytest

from contracts.partner import CourseText
from kit.problems import Problem
from services.catalogue import __main__ as catalogue
from services.catalogue import api, domain
from services.catalogue.domain import Rule


def test_an_unknown_subject_is_refused_with_the_list() -> None:
    domain.known_subjects(["helse"], ["bygg", "helse"])
    with pytest.raises(Rule, match="magi is not a subject; choose of bygg, helse"):
        domain.known_subjects(["helse", "magi"], ["bygg", "helse"])


def test_another_partners_arena_is_refused_with_the_list() -> None:
    domain.own_arenas(["online"], ["online", "mosjoen"])
    with pytest.raises(Rule, match="oslo is not an arena of this partner; choose of mosjoen, online"):
        domain.own_arenas(["oslo"], ["online", "mosjoen"])


@pytest.mark.parametrize(
    ("tag", "version"),
    [(None, None), ("*", None), ('"3"', 3), ('W/"12"', 12), ("", -1), ('"x"', -1), ("9" * 4000, -1), ("\u00b2", -1)],
)
def test_an_if_match_that_is_not_ours_matches_nothing(tag: str | None, version: int | None) -> None:
    assert api.version_of(tag) == version


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": {"nb": "Sveis"}, "studiepoeg": "7.5"}, "studiepoeg"),
        ({"title": {"xx": "Sveis"}}, "title.xx.[key]"),
        ({"title": {"nb": "Sveis"}, "price_ore": "100"}, "price_ore"),
        ({}, "title"),
        ([], "body"),
    ],
)
def test_a_wrong_field_is_named(body: object, field: str) -> None:
    with pytest.raises(Problem) as caught:
        api.said(CourseText, json.dumps(body).encode())
    assert caught.value.status == 422
    assert field in [error["field"] for error in caught.value.extensions["errors"]]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"title": {"nb": "a", "nb": "b"}}', b"[" * 100_000])
def test_a_body_that_two_readers_could_take_differently_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        api.said(CourseText, body)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("code", "status"), [("stale", 412), ("unknown_course", 404), ("offering_cancelled", 409), ("unknown_arena", 422)]
)
def test_a_broken_rule_is_told_by_its_status(code: str, status: int) -> None:
    assert api.refused(Rule(code, "places", "words")).status == status


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Rule("partner_exists", "slug", "x is a partner already"), "x was not added: x is a partner already."),
        (ConnectionRefusedError(), "x was not added: the database does not answer. Start it, then run this again."),
        (asyncpg.InvalidPasswordError(), "x was not added: the database says InvalidPasswordError."),
    ],
)
def test_what_an_operator_can_mend_is_one_sentence(error: Exception, words: str) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        catalogue._end(fail(), "x was not added")
    assert caught.value.code == words
