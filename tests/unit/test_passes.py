"""What is kept of passes is worth no more than a pass that is made, or read, at that moment."""

import json
import time
from dataclasses import replace

import pytest
from joserfc.jwk import ECKey

from kit import passes
from kit.auth import Caller
from kit.passes import NotValid, Visitor

SIGNS, BELIEVES = passes.generate()
KARI = Visitor(Caller("https://issuer.test", "kari"), "forms-of-kari")


class Clock:
    """The time of this process, which stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_whoever_asks_again_is_given_the_same_pass_while_half_of_its_time_is_left(clock: Clock) -> None:
    begun, first = clock.now, passes.sign(SIGNS, KARI)
    given = set()
    while clock.now < begun + 3 * passes.SAME_S:
        text = passes.sign(SIGNS, KARI)
        given.add(text)
        now = clock.now
        clock.now = now + passes.LASTS_S - passes.SAME_S + passes.LEEWAY_S - 1
        assert passes.read(BELIEVES, text) == KARI, "half of its time is left"
        clock.now = now + passes.LASTS_S + passes.LEEWAY_S
        with pytest.raises(NotValid):
            passes.read(BELIEVES, text)
        clock.now = now + 7
    assert first in given
    assert len(given) in (3, 4), "the control: it is another by and by"


def test_a_pass_that_was_read_is_not_believed_when_it_is_over(clock: Clock) -> None:
    text = passes.sign(SIGNS, KARI)
    assert passes.read(BELIEVES, text) == KARI
    clock.now += passes.LASTS_S + passes.LEEWAY_S
    with pytest.raises(NotValid):
        passes.read(BELIEVES, text)
    clock.now -= passes.LASTS_S
    assert passes.read(BELIEVES, text) == KARI, "the control: by its time alone"


def test_whoever_is_another_in_anything_is_given_another_pass(clock: Clock) -> None:
    others = [
        KARI,
        replace(KARI, csrf="forms-of-her-next-session"),
        *(
            replace(KARI, caller=caller)
            for caller in (
                replace(KARI.caller, role="operator"),
                replace(KARI.caller, partner="torgar"),
                replace(KARI.caller, employer="974760673"),
                replace(KARI.caller, name="Kari"),
                replace(KARI.caller, subject="ola"),
                replace(KARI.caller, issuer="https://another.test"),
            )
        ),
    ]
    assert [passes.read(BELIEVES, passes.sign(SIGNS, one)) for one in others] == others
    assert passes.read(BELIEVES, passes.sign(SIGNS, KARI)) == KARI


def test_a_pass_that_was_read_is_believed_by_the_key_that_it_was_read_by_alone(clock: Clock) -> None:
    text = passes.sign(SIGNS, KARI)
    passes.read(BELIEVES, text)
    _, another = passes.generate()
    with pytest.raises(NotValid):
        passes.read(another, text)


def test_what_strangers_send_is_not_kept(clock: Clock) -> None:
    kept = passes._opened.cache_info().currsize
    head, body, _ = passes.sign(SIGNS, KARI).split(".")
    for forged in ("x", "a.b.c", f"{head}.{body}.{'A' * 86}"):
        for _ in range(2):
            with pytest.raises(NotValid):
                passes.read(BELIEVES, forged)
    assert passes._opened.cache_info().currsize == kept


def test_so_many_are_kept_and_no_more() -> None:
    for kept in (passes._signed, passes._opened):
        assert kept.cache_info().maxsize == passes.MOST_KEPT


def test_a_key_that_cannot_sign_is_told_at_start() -> None:
    """The two halves lie beside each other in two files: the wrong one is the likeliest mistake."""
    passes.check(SIGNS)
    other = ECKey.generate_key("P-384").as_dict(private=True)
    for text in (BELIEVES, json.dumps(other), "{}", ""):
        with pytest.raises(ValueError, match="must be a private JWK with a P-256 key"):
            passes.check(text)
