"""A signed link does the one thing it was made for, for one person, and nothing that somebody made up does anything."""

import base64
import dataclasses
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import sealing
from services.notifier import letters
from services.notifier.channels import mime
from services.notifier.channels.channel import Never
from services.notifier.tokens import LONGEST, Invalid, Link, Signer
from tests.unit.test_notifier_messages import SENDER, claimed, environment

PRIVATE = sealing.generate()[0]
LINK = Link("0123456789abcdef0123456789abcdef", ("changes", "news"), datetime(2027, 11, 26, 12, tzinfo=UTC))


def test_a_link_says_what_it_was_made_with() -> None:
    token = Signer(PRIVATE).token("unsubscribe", LINK)
    assert Signer(PRIVATE).opened("unsubscribe", token) == LINK
    assert len(token) < LONGEST
    assert token.isascii()
    assert not set(token) & set("/+=.?&#")


def test_a_link_is_for_one_purpose_and_one_key() -> None:
    token = Signer(PRIVATE).token("unsubscribe", LINK)
    with pytest.raises(Invalid):
        Signer(PRIVATE).opened("undo", token)
    with pytest.raises(Invalid):
        Signer(sealing.generate()[0]).opened("unsubscribe", token)


def test_a_link_outlives_a_new_key_as_long_as_the_old_one_is_kept() -> None:
    token = Signer(PRIVATE).token("unsubscribe", LINK)
    both = {"keys": json.loads(sealing.generate()[0])["keys"] + json.loads(PRIVATE)["keys"]}
    assert Signer(json.dumps(both)).opened("unsubscribe", token) == LINK


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_a_link_can_be_changed(place: int, other: int) -> None:
    token = Signer(PRIVATE).token("unsubscribe", LINK)
    whole = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    whole[place % len(whole)] ^= other
    with pytest.raises(Invalid):
        Signer(PRIVATE).opened("unsubscribe", base64.urlsafe_b64encode(whole).decode().rstrip("="))


@given(st.text(max_size=500))
def test_what_somebody_made_up_is_no_link(token: str) -> None:
    with pytest.raises(Invalid):
        Signer(PRIVATE).opened("unsubscribe", token)


@pytest.mark.parametrize("language", ["nb", "nn", "en"])
def test_the_address_that_stops_mails_stands_whole_in_one_line(language: str) -> None:
    address = f"https://kurs.example/api/notifier/v1/unsubscribe/{'x' * LONGEST}"
    letter = letters.letter(environment(), claimed(template="changed", language=language), None, address)
    head = mime.mail(letter, str(SENDER)).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert f"List-Unsubscribe: <{address}>".encode() in head
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click" in head
    assert address in letter.text.splitlines()
    assert f'<a href="{address}">' in letter.html


def test_a_mail_that_cannot_be_stopped_has_no_such_line() -> None:
    letter = letters.letter(environment(), claimed())
    assert b"List-Unsubscribe" not in mime.mail(letter, str(SENDER))
    assert "unsubscribe" not in letter.text + letter.html


def test_an_address_cannot_become_two_headers() -> None:
    letter = dataclasses.replace(letters.letter(environment(), claimed()), unsubscribe="https://a\r\nBcc: b@c.no")
    with pytest.raises(Never, match="bad_header"):
        mime.mail(letter, str(SENDER))
