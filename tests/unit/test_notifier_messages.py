"""What a learner reads: every template in every language, and nothing that a title or a name can do to a mail."""

import dataclasses
import functools
import html
import re
import uuid
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from kit import sealing
from services.notifier import digests, letters, offers, offices
from services.notifier.channels import mime
from services.notifier.channels.channel import Letter, Never
from services.notifier.settings import sender
from services.notifier.store import outgoing

SENDER = sender("Kursnett <ikke-svar@kursnett.example>")
HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Content-Language",
    "MIME-Version",
    "Content-Type",
]
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
ACCEPT, DECLINE = "eyJh.ACCEPT_~-1", "eyJh.DECLINE_~-2"
LINKS = offers.Links(
    accept=f"https://kurs.example/tilbud/{ACCEPT}/godta", decline=f"https://kurs.example/tilbud/{DECLINE}/avslaa"
)
OTHER = {
    "offering_id": str(uuid.uuid4()),
    "course_id": str(uuid.uuid4()),
    "title": {"nb": "Ledelse på nett", "nn": "Leiing på nett", "en": "Leadership online"},
    "starts_at": "2027-03-28T16:00:00Z",
    "arenas": ["online", "mosjoen"],
}

WAS: dict[str, Any] = {"starts_at": "2026-12-03T16:00:00+00:00", "ends_at": "2026-12-03T19:30:00+00:00", "sessions": []}
NOW: dict[str, Any] = {
    "starts_at": "2026-12-03T17:00:00+00:00",
    "ends_at": "2026-12-03T19:30:00+00:00",
    "sessions": [{"starts_at": "2026-12-03T17:00:00Z", "ends_at": "2026-12-03T19:30:00Z", "room": "Rom 2"}],
}
CHANGE: dict[str, Any] = {"was": WAS, "now": NOW, "closed": ["mosjoen"]}


def claimed(**changed: Any) -> outgoing.Claimed:
    whole = outgoing.Claimed(
        id=uuid.uuid4(),
        event_id=str(uuid.uuid4()),
        learner_id=uuid.uuid4(),
        about=uuid.uuid4(),
        template="enrolled",
        channel="email",
        place="bronnoysund",
        place_in_line=3,
        facts={
            "denial": "Kurset er fullt.",
            "on_lapse": "leave",
            "in_line": True,
            "waited_for": "seat",
            "from_place": "mo-i-rana",
            "days": 7,
            "place_before": 5,
        }
        | CHANGE,
        expires_at=datetime(2026, 12, 1, 7, tzinfo=UTC),
        late=False,
        sealed=None,
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
        alternatives=[OTHER],
        sessions=[],
        sequence=None,
    )
    return dataclasses.replace(whole, **changed)


environment = functools.cache(letters.environment)  # compiles each template once


def written(**changed: Any) -> Letter:
    return letters.letter(environment(), claimed(**changed), LINKS)


def read_back(letter: Letter) -> Any:
    return message_from_bytes(mime.mail(letter, str(SENDER)), policy=policy.default)


def test_what_many_are_told_is_written_once_and_each_reads_their_own() -> None:
    templates = letters.environment()
    names = ["Kari", "Ola <b>\"&'", "Åse", "mark", None]
    letters._moulded.cache_clear()
    for number, name in enumerate(names):
        links = offers.Links(accept=f"https://x.no/{number}/ja?a&amp=1", decline=f"https://x.no/{number}/nei?a&b")
        notice, stop = claimed(template="offered", name=name), f"https://x.no/stopp?a&b={number}"
        mine = letters.letter(templates, notice, links, stop)
        said = letters.words(notice, links, stop)
        subject, text = letters.written(templates, "offered", said)
        assert (mine.subject, mine.text) == (subject, text)
        assert mine.html == templates.get_template("offered.nb.html").render(said, subject=subject)
    assert letters._moulded.cache_info().misses == 2  # one for all with a name, and one for who has none


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


def test_every_mail_to_a_person_leads_to_their_enrolments() -> None:
    """Who is asked to withdraw in time must find where. To an office it says nothing: its mail has its own page."""
    templates = letters.environment("https://kurs.example")
    for template in letters.TEMPLATES:
        for language, words in {"nb": "Påmeldingene dine", "nn": "Påmeldingane dine", "en": "Your enrolments"}.items():
            letter = letters.letter(templates, claimed(template=template, language=language), LINKS)
            assert f"\n{words}: https://kurs.example/min-side\n" in letter.text, template
            assert f'<a href="https://kurs.example/min-side">{words}</a>' in letter.html, template
    notice = claimed(template="partner_digest", facts={"told": [RUN], "waiting": []})
    office = offices.letter(templates, notice, "https://kurs.example", None)
    assert "min-side" not in office.text + office.html


@pytest.mark.parametrize(
    ("language", "asked", "named"),
    [
        ("nb", "Spørsmål om kurset? Spør Torgar & sønn: post@torgar.example", "Arrangør: Torgar & sønn"),
        ("nn", "Spørsmål om kurset? Spør Torgar & sønn: post@torgar.example", "Arrangør: Torgar & sønn"),
        ("en", "Questions about the course? Ask Torgar & sønn: post@torgar.example", "Organiser: Torgar & sønn"),
    ],
)
def test_every_mail_about_an_enrolment_says_who_holds_the_course_and_whom_to_ask(
    language: str, asked: str, named: str
) -> None:
    for template in letters.TEMPLATES:
        for contact, line in (("post@torgar.example", asked), (None, named)):
            letter = written(template=template, language=language, provider="Torgar & sønn", provider_contact=contact)
            assert f"\n{line}\n" in letter.text, template
            assert f"{html.escape(line)}<br>" in letter.html, template
        unknown = written(template=template, language=language, provider=None)
        assert named.split(":")[0] + ":" not in unknown.text
    items = [ITEM, {**ITEM, "template": "confirmed", "facts": {}}]  # of several providers
    many = claimed(template="digest", facts={"categories": ["changes"], "items": items}, provider="Torgar & sønn")
    office = claimed(template="partner_digest", facts={"told": [RUN], "waiting": []}, provider="Torgar & sønn")
    for letter in (
        digests.letter(environment(), many, None, SENDER),
        offices.letter(environment(), office, "https://kurs.example", None),
    ):
        assert "Torgar" not in letter.text + letter.html


def test_each_template_says_something_of_its_own() -> None:
    assert len({written(template=template).subject for template in letters.TEMPLATES}) == len(letters.TEMPLATES)
    assert "nummer 3" in written(template="queued").text
    assert "nummer 3" in written(template="queued").html


@pytest.mark.parametrize("template", ["queued", "lapsed"])
@pytest.mark.parametrize(
    ("language", "asks_first", "promised"),
    [
        ("nb", "går til den som spør først", ("tilbyr vi deg", "skriver vi")),
        ("nn", "går til den som spør først", ("tilbyr vi deg", "skriv vi")),
        ("en", "goes to whoever asks first", ("we will offer you", "we will write")),
    ],
)
def test_in_line_too_late_for_offers_nobody_is_promised_one(
    template: str, language: str, asks_first: str, promised: tuple[str, str]
) -> None:
    for facts, late in (({}, False), ({"offers": True}, False), ({"offers": False}, True)):  # none: of before
        letter = written(template=template, language=language, facts={"in_line": True} | facts)
        for words in (letter.text, letter.html):
            assert (asks_first in words, any(one in words for one in promised)) == (late, not late), words


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("nb", "melde deg på igjen så lenge påmeldingen er åpen."),
        ("nn", "melde deg på igjen så lenge påmeldinga er open."),
        ("en", "sign up again as long as enrolment is open."),
    ],
)
def test_who_is_out_of_line_is_not_told_that_enrolment_is_open_which_is_not_known_here(
    language: str, words: str
) -> None:
    letter = written(template="lapsed", language=language, facts={"in_line": False})
    assert words in letter.text
    assert words in letter.html


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", letters.TEMPLATES)
@pytest.mark.parametrize("ugly", UGLY)
def test_what_others_typed_is_only_ever_shown(ugly: str, template: str, language: str) -> None:
    letter = written(
        template=template,
        language=language,
        title={"nb": ugly},
        name=ugly,
        facts={"denial": ugly, "on_lapse": ugly, "in_line": False, "from_place": ugly, "days": 1, "place_before": 5}
        | {"waited_for": "approval"}
        | CHANGE
        | {"now": {**NOW, "sessions": [{**NOW["sessions"][0], "room": ugly}]}, "closed": [ugly]},
        alternatives=[{**OTHER, "title": {"nb": ugly}, "arenas": [ugly]}],
    )
    mail = read_back(letter)
    assert [address.addr_spec for address in mail["To"].addresses] == ["kari@example.no"]
    assert mail["Bcc"] is None
    assert len(mail.get_all("Subject")) == 1
    assert letters.one_line(ugly) in letter.text  # what looks like a template stands there as it was typed
    assert "1337" not in letter.text + letter.html
    assert "<script>" not in letter.html
    assert "\u202e" not in letter.text + letter.html + letter.subject
    assert not any(line.startswith(("Bcc:", "Subject:")) for line in letter.text.splitlines())


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_offer_has_its_two_links_alone_on_a_line_and_as_links(language: str) -> None:
    letter = written(template="offered", language=language)
    lines = read_back(letter).get_body(("plain",)).get_content().splitlines()
    assert [line for line in lines if "tilbud/" in line] == [LINKS.accept, LINKS.decline]
    assert f'<a href="{LINKS.accept}"' in letter.html
    assert f'<a href="{LINKS.decline}"' in letter.html
    for template in letters.TEMPLATES:
        if template != "offered":
            other = written(template=template, language=language)
            assert "tilbud/" not in other.text + other.html


@pytest.mark.parametrize(
    ("language", "deadline", "leave", "back"),
    [
        ("nb", "Svar innen tirsdag 1. desember 2026 kl. 08.00.", "du står ikke lenger i kø", "du havner bakerst"),
        ("nn", "Svar innan tysdag 1. desember 2026 kl. 08.00.", "du står ikkje lenger i kø", "du hamnar bakarst"),
        ("en", "Answer by Tuesday 1 December 2026 at 08:00.", "you leave the line", "you go to the back of the line"),
    ],
)
def test_an_offer_says_until_when_and_what_silence_does(language: str, deadline: str, leave: str, back: str) -> None:
    for on_lapse, said, unsaid in (("leave", leave, back), ("back_of_queue", back, leave)):
        letter = written(template="offered", language=language, facts={"on_lapse": on_lapse})
        for words in (letter.text, letter.html):
            assert deadline in words
            assert said in words
            assert unsaid not in words


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("nb", {1: "snart", 7: "om omtrent en uke", 14: "om omtrent 14 dager"}),
        ("nn", {1: "snart", 7: "om omtrent ei veke", 14: "om omtrent 14 dagar"}),
        ("en", {1: "soon", 7: "in about a week", 14: "in about 14 days"}),
    ],
)
def test_a_reminder_says_how_soon_it_is(language: str, said: dict[int, str]) -> None:
    for days, words in said.items():
        letter = written(template="reminder", language=language, facts={"days": days})
        for text in (letter.text, letter.html):
            assert f" {words}, " in text
            assert not [other for other in said.values() if other != words and f" {other}, " in text]


@pytest.mark.parametrize(
    ("expires_at", "spelled"),
    [
        (datetime(2027, 3, 27, 7, tzinfo=UTC), "lørdag 27. mars 2027 kl. 08.00"),
        (datetime(2027, 3, 28, 6, tzinfo=UTC), "søndag 28. mars 2027 kl. 08.00"),
        (datetime(2026, 10, 25, 7, tzinfo=UTC), "søndag 25. oktober 2026 kl. 08.00"),
        (datetime(2026, 12, 1, 23, 30, tzinfo=UTC), "onsdag 2. desember 2026 kl. 00.30"),
    ],
)
def test_a_deadline_is_told_in_oslos_time_on_both_sides_of_a_change(expires_at: datetime, spelled: str) -> None:
    assert f"Svar innen {spelled}." in written(template="offered", expires_at=expires_at).text


@pytest.mark.parametrize("template", ["lapsed", "declined"])
@pytest.mark.parametrize(("language", "line"), [("nb", "bakerst"), ("nn", "bakarst"), ("en", "at the back")])
def test_who_stands_in_line_is_told_where(template: str, language: str, line: str) -> None:
    stays = written(template=template, language=language, facts={"in_line": True})
    leaves = written(template=template, language=language, facts={"in_line": False})
    assert line in stays.text
    assert line in stays.html
    assert line not in leaves.text + leaves.html


def test_a_denial_gives_the_partners_reason_if_there_is_one() -> None:
    assert "Arrangøren skriver: Kurset er fullt." in written(template="denied").text
    assert "Arrangøren skriver" not in written(template="denied", facts={"denial": ""}).text


def test_a_move_names_both_places() -> None:
    letter = written(template="moved")
    for words in (letter.text, letter.html):
        assert "Sted: Brønnøysund" in words
        assert "Tidligere sted: Mo i Rana" in words


CLOSED = "Tar ikke flere påmeldinger: Mosjøen. Har du plass der, gjelder den fortsatt."


def test_a_change_says_how_it_was_and_how_it_is() -> None:
    letter = written(template="changed")
    lines = letter.text.splitlines()
    was, now, closed = lines.index("Før:"), lines.index("Nå:"), lines.index(CLOSED)
    assert lines[was + 1] == "- torsdag 3. desember 2026 kl. 17.00–20.30"
    assert lines[now + 1 : now + 3] == [
        "- torsdag 3. desember 2026 kl. 18.00–20.30",
        "- torsdag 3. desember 2026 kl. 18.00–20.30, Rom 2",
    ]
    assert was < now < closed
    assert "Rom 2</li>" in letter.html
    only_closed = written(template="changed", facts={"was": NOW, "now": NOW, "closed": ["mosjoen"]})
    assert "Før:" not in only_closed.text + only_closed.html
    assert "\n\n\n" not in only_closed.text


@pytest.mark.parametrize(
    ("language", "line"),
    [
        ("nb", "- Ledelse på nett, søndag 28. mars 2027 kl. 18.00, På nett, Mosjøen"),
        ("nn", "- Leiing på nett, søndag 28. mars 2027 kl. 18.00, På nett, Mosjøen"),
        ("en", "- Leadership online, Sunday 28 March 2027 at 18:00, Online, Mosjøen"),
    ],
)
def test_a_cancelled_course_names_others(language: str, line: str) -> None:
    letter = written(template="offering_cancelled", language=language)
    assert line in letter.text.splitlines()
    assert OTHER["title"][language] in letter.html  # type: ignore[index]
    assert "Mosjøen</li>" in letter.html
    notice = claimed(template="offering_cancelled", language=language)
    leading = letters.letter(letters.environment("https://kurs.example"), notice, LINKS)
    page = f"https://kurs.example/kurs/{OTHER['course_id']}"
    assert (f"  {page}" in leading.text.splitlines(), f'<a href="{page}">' in leading.html) == (True, True)
    nordic = written(template="offering_cancelled", alternatives=[{**OTHER, "title": {"nn": "Havbruk"}}])
    assert '<strong lang="nn">Havbruk</strong>' in nordic.html
    nothing = written(template="offering_cancelled", alternatives=[])
    assert "passe" not in nothing.text + nothing.html
    assert "<ul>" not in nothing.html


@pytest.mark.parametrize(
    ("because", "lines"),
    [
        ("", ("", "", "")),
        (
            "too_few",
            ("For få hadde meldt seg på.", "For få hadde meldt seg på.", "Too few had enrolled."),
        ),
        (
            "course_withdrawn",
            (
                "Arrangøren tilbyr ikke dette kurset lenger.",
                "Arrangøren tilbyr ikkje dette kurset lenger.",
                "The organiser no longer offers this course.",
            ),
        ),
        (
            "Læreren er <b>syk</b>.\nSpør oss.",
            (
                "Arrangøren skriver: Læreren er <b>syk</b>. Spør oss.",
                "Arrangøren skriv: Læreren er <b>syk</b>. Spør oss.",
                "The organiser writes: Læreren er <b>syk</b>. Spør oss.",
            ),
        ),
    ],
)
def test_a_cancelled_course_says_why_where_anybody_has_said(because: str, lines: tuple[str, str, str]) -> None:
    for language, line in zip(LANGUAGES, lines, strict=True):
        letter = written(template="offering_cancelled", language=language, cancelled_because=because)
        following = letter.text.split("\n\n")[1].splitlines()
        assert following[1:] == ([line] if line else [])
        assert html.escape(line, quote=False) in letter.html


def test_an_offer_without_its_links_is_not_written() -> None:
    with pytest.raises(UndefinedError):
        letters.letter(letters.environment(), claimed(template="offered"))


PRIVATE, PUBLIC = sealing.generate()


def test_the_links_are_the_tokens_that_were_sealed_on_the_gateways_origin() -> None:
    sealed = sealing.seal(PUBLIC, {"accept": ACCEPT, "decline": DECLINE, "more": 1})
    links = offers.opened(PRIVATE, "https://kurs.example", sealed)
    assert links == LINKS
    assert ACCEPT not in repr(links)
    assert sealed not in repr(claimed(sealed=sealed))


@pytest.mark.parametrize(
    ("letter", "reason"),
    [
        (None, "unsealable"),
        ({"accept": ACCEPT}, "bad_tokens"),
        ({"accept": ACCEPT, "decline": 7}, "bad_tokens"),
        ({"accept": ACCEPT, "decline": ""}, "bad_tokens"),
        ({"accept": "a\nb", "decline": DECLINE}, "bad_tokens"),
        ({"accept": "a\n", "decline": DECLINE}, "bad_tokens"),
        ({"accept": "../x", "decline": DECLINE}, "bad_tokens"),
        ({"accept": "a b", "decline": DECLINE}, "bad_tokens"),
        ({"accept": "å", "decline": DECLINE}, "bad_tokens"),
        ({"accept": "a" * 1001, "decline": DECLINE}, "bad_tokens"),
    ],
)
def test_tokens_that_make_no_link_are_refused_without_a_word_of_them(letter: Any, reason: str) -> None:
    sealed = "not a letter" if letter is None else sealing.seal(PUBLIC, letter)
    with pytest.raises(Never) as refused:
        offers.opened(PRIVATE, "https://kurs.example", sealed)
    assert refused.value.reason == reason
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_another_key_opens_no_offer() -> None:
    sealed = sealing.seal(PUBLIC, {"accept": ACCEPT, "decline": DECLINE})
    with pytest.raises(Never, match="unsealable"):
        offers.opened(sealing.generate()[0], "https://kurs.example", sealed)


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
        mime.mail(written(email=address), str(SENDER))


@pytest.mark.parametrize("value", ["a@b.no", "Kursnett <a@b.no>", "Kurs nett<a@b.no>"])
def test_the_sender_is_one_address(value: str) -> None:
    assert sender(value).addr_spec == "a@b.no"


@pytest.mark.parametrize(
    "value", ["", "a", "a@b.no, c@d.no", "a@b.no <c@d.no>", "x <a@b.no> <c@d.no>", "x\r\ny <a@b.no>"]
)
def test_a_sender_that_is_not_one_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="must be one address"):
        sender(value)


@pytest.mark.parametrize(
    "ugly", [*UGLY, "a\r\nBcc: b@c.no", "=?utf-8?q?=0d=0aBcc:_b@c.no?=", 'Kari "K" <k@x.no>', "x" * 300]
)
def test_a_name_and_a_subject_are_shown_as_they_are_and_begin_no_header(ugly: str) -> None:
    letter = dataclasses.replace(written(), subject=ugly, name=ugly)
    lines = mime.mail(letter, str(SENDER)).partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.partition(b":")[0].decode() for line in lines if not line.startswith((b" ", b"\t"))]
    assert names == HEADERS
    assert max(len(line) for line in lines) <= 78
    mail = read_back(letter)
    assert "".join(mail["Subject"].split()) == "".join(ugly.split())
    assert [one.addr_spec for one in mail["To"].addresses] == ["kari@example.no"]


def test_a_message_id_with_a_line_break_is_refused() -> None:
    with pytest.raises(Never, match="bad_header"):
        mime.mail(dataclasses.replace(written(), message_id="<1@x.no>\r\nBcc: <b@c.no>"), str(SENDER))


@pytest.mark.parametrize("text", ["--=_kursnett--", "a\r\n--=_kursnett\r\nb", ".\n..\n.", "\rå\r\n\n" + "ø" * 200])
def test_no_body_ends_its_part_or_breaks_a_line_as_no_server_does(text: str) -> None:
    letter = dataclasses.replace(written(), text=text, html=text)
    raw = mime.mail(letter, str(SENDER))
    assert raw.replace(b"\r\n", b"").count(b"\n") == raw.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(len(line) for line in raw.split(b"\r\n")) <= 76
    plain, html = read_back(letter).iter_parts()
    for part in (plain, html):
        assert part.get_content().splitlines() == text.rstrip("\n").splitlines()


def test_a_template_that_asks_for_more_than_there_is_fails() -> None:
    with pytest.raises(UndefinedError):
        letters.environment().from_string("{{ nobody }}").render()


def test_the_title_falls_back_to_the_nearest_language_and_says_which() -> None:
    assert letters.chosen_title({"nb": "b", "en": "e"}, "nn") == ("b", "nb")
    assert letters.chosen_title({"nn": "n", "en": "e"}, "nb") == ("n", "nn")
    assert letters.chosen_title({"sma": "s"}, "en") == ("s", "sma")
    assert letters.chosen_title({"sme": "s"}, "en") == ("s", "se")
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
        ("en", "Thursday 3 December 2026 at 18:00–20:30"),
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


ITEM: dict[str, Any] = {
    "template": "changed",
    "place": "bronnoysund",
    "facts": CHANGE,
    "title": TITLES,
    "starts_at": "2026-12-03T17:00:00+00:00",
    "ends_at": "2026-12-03T19:30:00+00:00",
}


def gathered(language: str, *items: dict[str, Any]) -> Letter:
    notice = claimed(template="digest", language=language, facts={"categories": ["changes"], "items": list(items)})
    return digests.letter(environment(), notice, "https://kurs.example/stop", Address("Kursnett", addr_spec="a@b.no"))


@pytest.mark.parametrize(
    ("language", "subject", "before", "now"),
    [
        ("nb", "Nytt om kursene dine", "Før:", "Nå:"),
        ("nn", "Nytt om kursa dine", "Før:", "No:"),
        ("en", "News of your courses", "Before:", "Now:"),
    ],
)
def test_a_digest_is_a_whole_mail_in_every_language(language: str, subject: str, before: str, now: str) -> None:
    other = {**ITEM, "template": "confirmed", "facts": {}, "title": {"nb": "Havbruk"}}
    letter = gathered(language, ITEM, other)
    mail = read_back(letter)
    text, html = mail.get_body(("plain",)).get_content(), mail.get_body(("html",)).get_content()
    assert (mail["Subject"], mail["Content-Language"]) == (subject, language)
    assert f'<html lang="{language}">' in html
    for words in (text, html):
        assert "Kari Åsnes" in words
        assert TITLES[language] in words
        assert "Havbruk" in words
        assert words.count("Brønnøysund") == 2
        assert words.count("Rom 2") == 1
        assert (words.count(before), words.count(now)) == (1, 1)
        assert "https://kurs.example/stop" in words
        assert "{" not in words
        assert "None" not in words
    assert "\n\n\n" not in text.replace("\r", "")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("ugly", UGLY)
def test_what_others_typed_is_only_ever_shown_in_a_digest_too(ugly: str, language: str) -> None:
    room = {**CHANGE, "now": {**NOW, "sessions": [{**NOW["sessions"][0], "room": ugly}]}, "closed": [ugly]}
    letter = gathered(language, {**ITEM, "title": {"nb": ugly}, "place": ugly, "facts": room})
    assert letters.one_line(ugly) in letter.text
    assert "1337" not in letter.text + letter.html
    assert "<script>" not in letter.html
    assert len(read_back(letter).get_all("Subject")) == 1


TWO_DAYS: list[dict[str, Any]] = [
    {"starts_at": "2026-12-03T17:00:00Z", "ends_at": "2026-12-03T19:30:00Z", "room": "Rom 2"},
    {"starts_at": "2026-12-10T17:00:00Z", "ends_at": "2026-12-10T19:30:00Z", "room": None},
]


@pytest.mark.parametrize("template", ["enrolled", "seat_from_line"])
@pytest.mark.parametrize(
    ("language", "lines"),
    [
        ("nb", ["torsdag 3. desember 2026 kl. 18.00–20.30, Rom 2", "torsdag 10. desember 2026 kl. 18.00–20.30"]),
        ("nn", ["torsdag 3. desember 2026 kl. 18.00–20.30, Rom 2", "torsdag 10. desember 2026 kl. 18.00–20.30"]),
        ("en", ["Thursday 3 December 2026 at 18:00–20:30, Rom 2", "Thursday 10 December 2026 at 18:00–20:30"]),
    ],
)
def test_who_has_a_seat_reads_each_day_when_there_is_more_than_one(
    template: str, language: str, lines: list[str]
) -> None:
    letter = written(template=template, language=language, sessions=TWO_DAYS)
    assert ":\n- {}\n- {}\n\n".format(*lines) in letter.text
    for line in lines:
        assert f"<li>{line}</li>" in letter.html
    for sessions in ([], TWO_DAYS[:1]):
        once = written(template=template, language=language, sessions=sessions)
        assert "\n- " not in once.text
        assert "<li>" not in once.html
        assert "\n\n\n" not in once.text + letter.text


@pytest.mark.parametrize("template", letters.TEMPLATES)
def test_the_one_meeting_of_a_run_is_told_as_it_is_with_its_room(template: str) -> None:
    """Not when the run as a whole begins and ends, which nobody meets at. Red control: the run's own times."""
    letter = written(template=template, sessions=[{**TWO_DAYS[1], "room": "Rom 7"}])
    facts = "Tid: torsdag 10. desember 2026 kl. 18.00–20.30\nSted: Brønnøysund, Rom 7\n"
    assert facts in letter.text
    assert facts.strip().replace("\n", "<br>\n") in letter.html


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_reminder_lists_each_day_with_its_room(language: str) -> None:
    letter = written(template="reminder", language=language, sessions=TWO_DAYS)
    assert letter.text.count("\n- ") == letter.html.count("<li>") == 2
    assert ", Rom 2\n" in letter.text
    assert "\n\n\n" not in letter.text


def test_a_room_is_words_and_nothing_else() -> None:
    hostile = [{**TWO_DAYS[0], "room": "a\r\nb <script>{{ 7 * 191 }}"}, TWO_DAYS[1]]
    letter = written(sessions=hostile)
    assert "20.30, a b <script>{{ 7 * 191 }}\n" in letter.text
    assert "a b &lt;script&gt;{{ 7 * 191 }}</li>" in letter.html


RUN: dict[str, Any] = {
    "offering_id": "0197-run",
    "title": TITLES,
    "starts_at": "2026-12-03T17:00:00+00:00",
    "ends_at": "2026-12-03T19:30:00+00:00",
    "in_line": 21,
    "pending": 34,
    "news": {"seated": 55, "queued": 1, "asked": 1, "withdrew": 89, "moved": 144, "at_risk": 1, "on_hold": 1},
}
RISK: dict[str, Any] = {**RUN, "in_line": 0, "pending": 0, "news": {"at_risk": 1}}
OVER: dict[str, Any] = {**RUN, "in_line": 0, "pending": 0, "news": {"confirmed": 1, "cancelled": 1}}


def to_office(language: str, told: list[dict[str, Any]], waiting: list[dict[str, Any]], **changed: Any) -> Letter:
    notice = claimed(template="partner_digest", language=language, facts={"told": told, "waiting": waiting}, **changed)
    return offices.letter(environment(), notice, "https://kurs.example", "https://kurs.example/stop")


@pytest.mark.parametrize(
    ("language", "subject", "lines"),
    [
        (
            "nb",
            "Nytt på kursene deres",
            "Fikk plass: 55|Meldte seg av: 89|Byttet sted: 144|"
            "Står i kø nå: 21|Venter på godkjenning nå: 34|Innen en uke avgjøres det.|"
            "da det skulle avgjøres|Kurset går.|Kurset er avlyst.|Avgjør om kurset skal gå.",
        ),
        (
            "nn",
            "Nytt på kursa dykkar",
            "Fekk plass: 55|Melde seg av: 89|Bytte stad: 144|"
            "Står i kø no: 21|Ventar på godkjenning no: 34|Innan ei veke blir det|"
            "da det skulle avgjerast|Kurset går.|Kurset er avlyst.|Avgjer om kurset skal gå.",
        ),
        (
            "en",
            "News of your courses at Kursnett",
            "Got a seat: 55|Withdrew: 89|Moved to another place: 144|"
            "In line now: 21|Waiting for approval now: 34|This will be decided within a week.|"
            "when it was to be decided|The course takes place.|The course is cancelled.|Decide whether",
        ),
    ],
)
def test_an_offices_mail_is_whole_in_every_language(language: str, subject: str, lines: str) -> None:
    letter = to_office(language, [RISK, RUN, OVER], [RUN], name="Torgar Næringshage")
    mail = read_back(letter)
    text, html = mail.get_body(("plain",)).get_content(), mail.get_body(("html",)).get_content()
    assert (mail["Subject"], mail["Content-Language"]) == (subject, language)
    assert f'<html lang="{language}">' in html
    for words in (text.replace("\r", ""), html):
        for line in lines.split("|"):
            assert words.count(line) == 1, line
        assert "Torgar Næringshage" in words
        assert words.count(TITLES[language]) == 4
        assert "https://kurs.example/deltakere/0197-run" in words
        assert "https://kurs.example/partner" in words
        assert "https://kurs.example/stop" in words
        assert "{" not in words
        assert "None" not in words
        assert "\n\n\n" not in words
    quiet = to_office(language, [OVER], [])
    assert "deltakere" not in quiet.text + quiet.html, "nothing waits"
    assert ": 0" not in quiet.text + quiet.html
    assert "\n\n\n" not in quiet.text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("ugly", UGLY)
def test_what_others_typed_is_only_ever_shown_to_an_office_too(ugly: str, language: str) -> None:
    run = {**RUN, "title": {"nb": ugly}}
    letter = to_office(language, [run], [run], name=ugly)
    mail = read_back(letter)
    assert letters.one_line(ugly) in letter.text
    assert "1337" not in letter.text + letter.html
    assert "<script>" not in letter.html
    assert "\u202e" not in letter.text + letter.html
    assert (len(mail.get_all("Subject")), mail["Bcc"]) == (1, None)
    assert [address.addr_spec for address in mail["To"].addresses] == ["kari@example.no"]
    assert not any(line.startswith(("Bcc:", "Subject:")) for line in letter.text.splitlines())


def test_one_has_a_seat_in_english_and_a_place_is_where_it_is() -> None:
    """As on the pages. The Norwegian of both is one word, `plass`, and another, `sted`."""
    written = sorted((Path(letters.__file__).parent / "messages").glob("*.en.*"))
    assert len(written) > 40
    wrong = [
        f"{path.name}: {found[0]}"
        for path in written
        for found in re.finditer(r"(?i)\b(a|the|your) place\b|e-mail|such mails", path.read_text("utf-8"))
    ]
    assert wrong == []
