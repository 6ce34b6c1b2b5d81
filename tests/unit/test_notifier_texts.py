"""Each SMS is short, in its reader's language, whole, and shows what others typed without obeying it."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from kit.phones import Phone
from services.notifier import letters, texts
from services.notifier.channels import sms
from services.notifier.channels.channel import Later, Never
from services.notifier.kinds import BY_SMS, TEXTED
from services.notifier.settings import NotifierSettings
from tests.unit.test_notifier_messages import CHANGE, LANGUAGES, NOW, PRIVATE, TITLES, UGLY, claimed, environment

ORIGIN = "https://kurs.example"
LONG_ORIGIN = "https://kurs.opplaering.nordland.fylkeskommune.example"
LINK = f"{ORIGIN}/min-side"


def written(origin: str = ORIGIN, **changed: Any) -> str:
    whole = claimed(**({"template": "offered"} | changed))
    if whole.template == "changed" and not whole.sessions:
        whole = dataclasses.replace(whole, sessions=whole.facts["now"]["sessions"])
    return texts.letter(environment(), dataclasses.replace(whole, channel="sms", phone="+4791234567"), origin).text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("æøåÆØÅé" * 22, 1),
        ("€" * 80, 1),
        ("€" * 80 + "a", 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("a" * 459, 3),
        ("a" * 460, 4),
        ("š" * 70, 1),
        ("š" * 71, 2),
        ("š" * 134, 2),
        ("š" * 201, 3),
        ("š" * 202, 4),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
    ],
)
def test_the_parts_of_a_text_are_counted_as_phones_are_sent_them(text: str, count: int) -> None:
    assert sms.parts(text) == count


def test_each_notice_that_goes_by_sms_has_its_words_in_each_language_and_no_other_has() -> None:
    files = {path.name for path in letters.MESSAGES.glob("*.sms")}
    assert files == {f"{template}.{language}.sms" for template in TEXTED for language in LANGUAGES}
    assert BY_SMS == ("seat", "offer", "changes", "reminders")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", TEXTED)
def test_every_sms_is_two_parts_at_most_names_its_course_and_ends_with_the_link(template: str, language: str) -> None:
    text = written(template=template, language=language)
    assert TITLES[language] in text
    assert text.endswith(f" {LINK}")
    assert "\n" not in text
    assert sms.parts(text) <= 2, text
    assert "{" not in text
    assert "None" not in text
    assert len({written(template=one, language=language) for one in TEXTED}) == len(TEXTED)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", TEXTED)
@pytest.mark.parametrize("ugly", [*UGLY, "š" * 200, "😀" * 200, "Ledelse " * 25, "€" * 200])
def test_what_others_typed_is_shown_cut_and_never_too_long(ugly: str, template: str, language: str) -> None:
    text = written(
        LONG_ORIGIN,
        template=template,
        language=language,
        title={"nb": ugly},
        place=ugly,
        facts={**CHANGE, "now": {**NOW, "sessions": [{**NOW["sessions"][0], "room": ugly}]}, "closed": [ugly, ugly]},
    )
    assert sms.parts(text) <= sms.MOST_PARTS, text
    assert text.endswith(f" {LONG_ORIGIN}/min-side")
    assert letters.one_line(ugly).translate(texts._PLAIN)[:7].strip() in text
    assert "1337" not in text
    assert "\u202e" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("nb", f"Du har fått tilbud om plass på {TITLES['nb']}. Svar innen tir. 1. des. kl. 08.00: {LINK}"),
        ("nn", f"Du har fått tilbod om plass på {TITLES['nn']}. Svar innan ty. 1. des. kl. 08.00: {LINK}"),
        ("en", f"You are offered a seat on {TITLES['en']}. Answer by Tue 1 Dec at 08:00: {LINK}"),
    ],
)
def test_an_offer_says_until_when_in_oslos_time(language: str, text: str) -> None:
    assert written(language=language, expires_at=datetime(2026, 12, 1, 7, tzinfo=UTC)) == text


def test_a_course_begins_with_its_first_meeting() -> None:
    """Red control: a run whose dates span a term is reminded of at midnight of another day."""
    meetings = [
        {"starts_at": f"2026-12-{day}T17:00:00Z", "ends_at": f"2026-12-{day}T19:30:00Z", "room": None}
        for day in ("11", "10")
    ]
    assert "Husk Ledelse i praksis: tor. 10. des. kl. 18.00," in written(template="reminder", sessions=meetings)


def test_a_change_says_what_is_new_when_that_is_one_meeting() -> None:
    text = written(template="changed")
    assert "Nytt: tor. 3. des. kl. 18.00, Rom 2. Stengt for nye: Mosjøen. " in text
    more = {**NOW, "sessions": [NOW["sessions"][0], {**NOW["sessions"][0], "room": "Rom 3"}]}
    text = written(template="changed", facts={**CHANGE, "now": more, "closed": []})
    assert "Nytt" not in text
    assert "Stengt" not in text
    assert "Nytt" not in written(template="changed", sessions=[{**NOW["sessions"][0], "room": "Rom 3"}]), "so no more"


def test_signs_that_no_phone_needs_cost_nobody_a_part() -> None:
    text = written(title={"nb": "«Leiing» – dag 1…"})
    assert '"Leiing" - dag 1' in text
    assert sms.parts(text) == 1


def test_sami_readers_get_norwegian_until_there_are_words() -> None:
    assert written(language="sme", title={"nb": "Undervisning"}).startswith("Du har fått tilbud om plass på Undervis")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"", None),
        (202, b"x", None),
        (301, b"", "later answer_301"),
        (400, b"", "never answer_400"),
        (401, b"", "later answer_401"),
        (403, b"", "later answer_403"),
        (404, b"", "later answer_404"),
        (409, b"", "later answer_409"),
        (422, b'{"code": "bad_text"}', "never answer_422"),
        (422, b'{"code": "invalid_number"}', "never refused_number"),
        (400, b'{"code": "invalid_number"}', "never refused_number"),
        (400, b'["invalid_number"]', "never answer_400"),
        (400, b"[" * 100_000, "never answer_400"),
        (401, b'{"code": "invalid_number"}', "later answer_401"),
        (429, b"", "later answer_429"),
        (500, b'{"code": "invalid_number"}', "later answer_500"),
        (503, b"", "later answer_503"),
    ],
)
def test_each_answer_of_a_gateway_means_now_later_or_never(status: int, body: bytes, said: str | None) -> None:
    found = sms.answer(status, "7", body)
    if said is None:
        assert found is None
        return
    assert found is not None
    assert isinstance(found, Later if said.startswith("later") else Never)
    assert found.reason == said.split()[-1]
    if isinstance(found, Later):
        busy = status in (429, 503)
        assert (found.wait_s, found.of_domain) == ((7.0, True) if busy else (0.0, False))
    else:
        assert found.status == ("invalid_number" if found.reason == "refused_number" else None)


PHONE: TypeAdapter[str] = TypeAdapter(Phone)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("91234567", "+4791234567"),
        ("912 34 567", "+4791234567"),
        (" 912-34-567 ", "+4791234567"),
        ("912\u00a034\u00a0567", "+4791234567"),
        ("+47 912 34 567", "+4791234567"),
        ("0047 91234567", "+4791234567"),
        ("+46 (70) 123.45.67", "+46701234567"),
        ("+4570123456", "+4570123456"),
    ],
)
def test_a_number_is_kept_in_one_form_however_it_is_typed(typed: str, kept: str) -> None:
    assert PHONE.validate_python(typed) == kept
    assert PHONE.validate_python(kept) == kept


@pytest.mark.parametrize(
    "typed",
    [
        *("", "1", "9123456", "912345678", "11234567", "+4711234567", "+479123456", "+47912345678", "+0123456789"),
        *(
            "+1234567",
            "+1234567890123456",
            "kari@example.no",
            "+47 912 34 567\nx",
            "٩١٢٣٤٥٦٧",
            "９１２３４５６７",
            "++4791234567",
        ),
    ],
)
def test_what_is_no_number_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(ValidationError, match="must be a phone number such as 912 34 567"):
        PHONE.validate_python(typed)


def settings(url: str) -> NotifierSettings:
    return NotifierSettings(
        database_password=SecretStr("x"),
        kafka_bootstrap="127.0.0.1:1",
        issuer="http://x.example",
        issuer_keys_url="http://x.example",
        contact_private_key=SecretStr(PRIVATE),
        sms_gateway_url=url,
    )


@pytest.mark.parametrize("url", ["", "https://sms.example/v1/send", "http://127.0.0.1:9/x", "http://localhost/x"])
def test_a_gateway_is_spoken_to_over_tls_or_on_this_machine(url: str) -> None:
    assert settings(url).sms_gateway_url == url
    assert ("sms.example" in settings(url).own_hosts) == ("sms.example" in url)  # no partner's webhook goes there


@pytest.mark.parametrize(
    "url",
    [
        *("http://sms.example/send", "sms.example", "https://", "https:///send", "ftp://sms.example/", "https://x:y/"),
        *(
            "https://user:secret@sms.example/",
            "https://sms.example/#x",
            "https://sms.example/ x",
            "https://smš.example/",
        ),
        *("http://127.0.0.1.sms.example/", "https://sms.example:0/", "https://[::1/"),
    ],
)
def test_an_address_that_would_tell_others_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValidationError, match="must be https://host/path"):
        settings(url)


def test_the_words_lie_beside_the_mails() -> None:
    assert all((letters.MESSAGES / Path(f"{template}.nb.txt")).is_file() for template in TEXTED)
