"""What a learner reads: every template in every language, and nothing that a title or a name can do to a mail."""

import dataclasses
import uuid
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import pytest
from jinja2 import UndefinedError

from services.notifier import letters, store
from services.notifier.channels import email
from services.notifier.channels.channel import Letter, Never
from services.notifier.settings import sender

SENDER = sender("Kursnett <ikke-svar@kursnett.example>")
TITLES = {"nb": "Ledelse i praksis", "nn": "Leiing i praksis", "en": "Leadership in practice"}
LANGUAGES = ("nb", "nn", "en")
UGLY = (
    "a\r\nBcc: alle@example.no",
    "a\nSubject: noe annet",
    "a\x0b\x0c\x1c\x1d\x85\u2028\u2029b",
    "{{ 7 * 191 }} {% for x in y %} {# borte #}",
    "{{ ''.__class__.__mro__ }}",
    "<script>alert(1)</script> \" ' & <b>",
    "\u202egro.live@moc\u202c \ufeff",
    "Kari, Ola <ola@example.no>; per@example.no",
    "=?utf-8?q?=0d=0aBcc:_alle=40example.no?=",
    "Å" * 300,
    "🧑‍🏫 Bronnøysund č ŧ ž ïj",
)


def claimed(**changed: Any) -> store.Claimed:
    whole = store.Claimed(
        id=uuid.uuid4(),
        event_id=str(uuid.uuid4()),
        learner_id=uuid.uuid4(),
        about=uuid.uuid4(),
        template="enrolled",
        channel="email",
        place="bronnoysund",
        place_in_line=3,
        attempt=1,
        message_id="<1@kursnett.example>",
        correlation_id=None,
        traceparent=None,
        created_at=datetime(2026, 11, 24, 9, tzinfo=UTC),
        sending_since=datetime(2026, 11, 24, 9, tzinfo=UTC),
        may_have_gone=False,
        email="kari@example.no",
        name="Kari Åsnes",
        language="nb",
        title=TITLES,
        starts_at=datetime(2026, 12, 3, 17, tzinfo=UTC),
        ends_at=datetime(2026, 12, 3, 19, 30, tzinfo=UTC),
    )
    return dataclasses.replace(whole, **changed)


def written(**changed: Any) -> Letter:
    return letters.letter(letters.environment(), claimed(**changed))


def read_back(letter: Letter) -> Any:
    return message_from_bytes(email.serialised(email.message(letter, SENDER)), policy=policy.default)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", letters.TEMPLATES)
def test_every_template_is_a_whole_mail_in_every_language(template: str, language: str) -> None:
    letter = written(template=template, language=language)
    mail = read_back(letter)
    text, html = mail.get_body(("plain",)).get_content(), mail.get_body(("html",)).get_content()
    assert TITLES[language] in mail["Subject"]
    assert mail["Content-Language"] == language
    assert mail["Message-ID"] == "<1@kursnett.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"]
    assert [address.addr_spec for address in mail["To"].addresses] == ["kari@example.no"]
    assert f'<html lang="{language}">' in html
    for words in (text, html):
        assert "Kari Åsnes" in words
        assert TITLES[language] in words
        assert "Brønnøysund" in words
        assert "{" not in words
        assert "None" not in words
    assert text.count("\n\n\n") == 0


def test_each_template_says_something_of_its_own() -> None:
    assert len({written(template=template).subject for template in letters.TEMPLATES}) == len(letters.TEMPLATES)
    assert "nummer 3" in written(template="queued").text
    assert "nummer 3" in written(template="queued").html


@pytest.mark.parametrize("ugly", UGLY)
def test_a_title_or_a_name_is_only_ever_shown(ugly: str) -> None:
    letter = written(title={"nb": ugly}, name=ugly)
    mail = read_back(letter)
    assert [address.addr_spec for address in mail["To"].addresses] == ["kari@example.no"]
    assert mail["Bcc"] is None
    assert len(mail.get_all("Subject")) == 1
    assert letters.one_line(ugly) in letter.text  # what looks like a template stands there as it was typed
    assert "1337" not in letter.text + letter.html
    assert "<script>" not in letter.html
    assert "\u202e" not in letter.text + letter.html + letter.subject


def test_a_template_does_evaluate_its_own_words() -> None:
    """The red control of the corpus: the same words in a template, not in a value, are worked out."""
    assert letters.environment().from_string(UGLY[3].partition(" {%")[0]).render() == "1337"


@pytest.mark.parametrize(
    "address",
    [
        "a@b.no, c@d.no",
        "a@b.no\r\nBcc: c@d.no",
        "a@b.no\nBcc: c@d.no",
        "<a@b.no>",
        "a@b.no>",
        "a",
        "",
        "å@b.no",
        "Ola <a@b.no>",
        "a@b.no (c@d.no)",
    ],
)
def test_what_is_not_one_plain_address_is_never_sent_to(address: str) -> None:
    with pytest.raises(Never, match="bad_address"):
        email.message(written(email=address), SENDER)


@pytest.mark.parametrize("value", ["a@b.no", "Kursnett <a@b.no>", "Kurs nett<a@b.no>"])
def test_the_sender_is_one_address(value: str) -> None:
    assert sender(value).addr_spec == "a@b.no"


@pytest.mark.parametrize(
    "value", ["", "a", "a@b.no, c@d.no", "a@b.no <c@d.no>", "x <a@b.no> <c@d.no>", "x\r\ny <a@b.no>"]
)
def test_a_sender_that_is_not_one_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="must be one address"):
        sender(value)


def test_a_header_with_a_line_break_is_refused() -> None:
    letter = dataclasses.replace(written(), subject="a\r\nBcc: b@c.no")
    with pytest.raises(Never, match="bad_header"):
        email.message(letter, SENDER)


def test_a_line_break_that_the_library_decodes_is_seen_before_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    letter = written(name=UGLY[8])
    assert email.serialised(email.message(letter, SENDER))
    monkeypatch.setattr(email, "literal", lambda text: text)  # without the first guard the second one stands
    mail = email.message(letter, SENDER)
    assert b"\r\nBcc:" in mail.as_bytes()
    with pytest.raises(Never, match="bad_header"):
        email.serialised(mail)


def test_a_template_that_asks_for_more_than_there_is_fails() -> None:
    with pytest.raises(UndefinedError):
        letters.environment().from_string("{{ nobody }}").render()


def test_the_title_falls_back_to_the_nearest_language_and_says_which() -> None:
    assert letters.chosen_title({"nb": "b", "en": "e"}, "nn") == ("b", "nb")
    assert letters.chosen_title({"nn": "n", "en": "e"}, "nb") == ("n", "nn")
    assert letters.chosen_title({"sma": "s"}, "en") == ("s", "sma")
    assert '<strong lang="nn">' in written(title={"nn": "Havbruk"}).html
    assert "<strong lang=" not in written().html


def test_sami_readers_get_norwegian_until_there_are_words() -> None:
    letter = written(language="sma", title={"sma": "Lierehtimmie", "nb": "Undervisning"})
    assert letter.language == "nb"
    assert "Undervisning" in letter.subject


@pytest.mark.parametrize(
    ("language", "spelled"),
    [
        ("nb", "torsdag 3. desember 2026 kl. 18.00–20.30"),
        ("nn", "torsdag 3. desember 2026 kl. 18.00–20.30"),
        ("en", "Thursday 3 December 2026, at 18:00–20:30"),
    ],
)
def test_times_are_spelled_in_oslo(language: str, spelled: str) -> None:
    assert spelled in written(language=language).text


def test_summer_time_is_known() -> None:
    text = letters.spelled(datetime(2026, 3, 28, 17, tzinfo=UTC), datetime(2026, 3, 30, 17, tzinfo=UTC), "nb")
    assert text == "lørdag 28. mars 2026 kl. 18.00 – mandag 30. mars 2026 kl. 19.00"


def test_a_learner_without_a_name_is_greeted_too() -> None:
    assert written(name=None).text.startswith("Hei,\n")
    assert "<p>Hei,</p>" in written(name=None).html


def test_places_have_their_letters() -> None:
    assert letters.place_name("online", "nb") == "På nett"
    assert letters.place_name("sor-fron", "nb") == "Sor fron"
    assert letters.place_name(None, "nb") is None
