"""The file of partners is read whole, mistakes are told by line and mend, and the difference is clear."""

from typing import Any

import pytest

from deploy.demo.data import PARTNERS
from kit import sealing
from services.catalogue import offices
from services.catalogue.members import NO_OFFICE, Member, NotValid, read, steps
from services.catalogue.offices import Office
from services.catalogue.operating import differences

GOOD = """# who may publish
[nesna]
name = "Nesna kurssenter"
orgnr = "100000601"
arenas = ["online", "mo-i-rana"]
contact = " post@nesna.example, 75 00 00 00"

[vega]
name = "Vega"
arenas = ["online"]
"""
NESNA = Member(
    "nesna", "Nesna kurssenter", "100000601", ("mo-i-rana", "online"), contact="post@nesna.example, 75 00 00 00"
)
VEGA = Member("vega", "Vega", None, ("online",))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_is_read_with_and_without_its_mark_and_whatever_ends_its_lines(encoding: str) -> None:
    assert read(GOOD.replace("\n", "\r\n").encode(encoding)) == [NESNA, VEGA]


def test_the_four_centres_of_the_demonstration_data_stand_in_it() -> None:
    there = {one.slug: one for one in read(PARTNERS.read_bytes())}
    assert sorted(there) == ["kunnskapsparken", "mosjoen", "torgar", "ytre-helgeland"]
    assert [one.office.mail for one in there.values() if one.office] == [
        f"kurs@{slug}.example" for slug in sorted(there)
    ]
    assert {one.arenas for one in there.values()} == {("bronnoysund", "mo-i-rana", "mosjoen", "online", "sandnessjoen")}


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"Nesna kurssenter"', '"Nesna', "line 3: is not TOML"),
        ("[vega]", "[nesna]", "line 8: is not TOML"),
        ("[nesna]", "[Nesna]", "line 2: Nesna: must be 1 to 40 of a-z"),
        ("[nesna]", "[enrolment]", "line 2: enrolment: is the name of a service"),
        ('name = "Nesna kurssenter"\n', "", "line 2: nesna: name is missing"),
        ('arenas = ["online", "mo-i-rana"]\n', "", "line 2: nesna: arenas is missing"),
        ('"Nesna kurssenter"', '" "', "line 3: nesna: name must say what people call the provider"),
        ('"Nesna kurssenter"', '"Nesna\\nkurs"', "line 3: nesna: name must say"),
        ('"Nesna kurssenter"', "7", "line 3: nesna: name must say"),
        ('"100000601"', '"100000602"', "line 4: nesna: orgnr must be nine digits"),
        ('"100000601"', "100000601", "line 4: nesna: orgnr must be nine digits in quotes"),
        ('"100000601"', '"100 000 601"', "line 4: nesna: orgnr must be nine digits"),
        ('["online", "mo-i-rana"]', "[]", "line 5: nesna: arenas must be a list of at least one"),
        ('["online", "mo-i-rana"]', '"online"', "line 5: nesna: arenas must be a list"),
        ('["online", "mo-i-rana"]', '["online", "Mo i Rana"]', "line 5: nesna: arenas has 'Mo i Rana'"),
        ('["online", "mo-i-rana"]', '["online", 7]', "line 5: nesna: arenas has 7"),
        ("orgnr", "orgnummer", "line 4: nesna: orgnummer is not known; is orgnr meant?"),
        ("orgnr", "colour", "line 4: nesna: colour is not known; there are name, orgnr, arenas"),
        ('" post@nesna.example, 75 00 00 00"', '"post@nesna.example\\n75"', "line 6: nesna: contact must say whom"),
        ('" post@nesna.example, 75 00 00 00"', "75000000", "line 6: nesna: contact must say whom learners may ask"),
        (
            'name = "Vega"',
            'name = "Vega"\nmail = "vega.example"',
            "line 10: vega: mail must be one mail address such as",
        ),
        (
            'name = "Vega"',
            'name = "Vega"\nmail = "a@vega.example, b@vega.example"',
            "line 10: vega: mail must be one mail",
        ),
        (
            'name = "Vega"',
            'name = "Vega"\nmail = "a@vega.example\\nBcc: b@vega.example"',
            "line 10: vega: mail must be",
        ),
        ('name = "Vega"', 'name = "Vega"\nmail = 7', "line 10: vega: mail must be one mail address"),
        ('name = "Vega"', 'name = "Vega"\nmail = ""', "line 10: vega: mail must be one mail address"),
        (
            'name = "Vega"',
            'name = "Vega"\nemail = "a@vega.example"',
            "line 10: vega: email is not known; is mail meant?",
        ),
        ('name = "Vega"', 'name = "Vega"\nmail_language = "nn"', "line 10: vega: mail_language says nothing without"),
        (
            'name = "Vega"',
            'name = "Vega"\nmail = "a@vega.example"\nmail_language = "no"',
            "line 11: vega: mail_language must be one of nb, nn, en, sma, sme",
        ),
        ("# who may publish", 'name = "x"', "line 1: name stands before any partner"),
    ],
)
def test_a_mistake_is_told_by_its_line(before: str, after: str, says: str) -> None:
    with pytest.raises(NotValid) as refused:
        read(GOOD.replace(before, after, 1).encode())
    assert refused.value.mistakes[0].startswith(says)
    assert len(refused.value.mistakes) == 1


def test_all_mistakes_are_told_at_once_and_what_cannot_be_read_is_told_by_its_line() -> None:
    with pytest.raises(NotValid) as refused:
        read(GOOD.replace("[nesna]", "[Nesna]").replace('["online"]', '["Online"]').encode())
    assert [one.split(":")[0] for one in refused.value.mistakes] == ["line 2", "line 10"]
    for content, says in (
        (b'[a]\nname = "\xe5"\n', "line 2: is not UTF-8"),
        (b"# nobody yet\n", "line 1: is all there is"),
        (b"", "line 1: is all there is"),
    ):
        with pytest.raises(NotValid, match=says):
            read(content)


def test_the_difference_says_what_comes_what_changes_and_who_is_left_as_he_is() -> None:
    known: list[Any] = [
        {"slug": "gone", "name": "Borte", "orgnr": None, "arenas": ["online"], "contact": None, "state": "active"}
        | NO_OFFICE,
        {
            "slug": "vega",
            "name": "Vega kurs",
            "orgnr": None,
            "arenas": ["mosjoen", "online"],
            "contact": None,
            "state": "suspended",
        }
        | NO_OFFICE,
    ]
    todo, absent = steps([NESNA, VEGA], known)
    assert [(one.slug, one.outcome) for one in todo] == [("nesna", "added"), ("vega", "changed")]
    assert todo[1].changes == {"name": ("Vega kurs", "Vega"), "arenas": (["mosjoen", "online"], ["online"])}
    assert differences(todo, absent, True) == [
        "+ nesna",
        "    name     Nesna kurssenter",
        "    orgnr    100000601",
        "    arenas   mo-i-rana, online",
        "    contact  post@nesna.example, 75 00 00 00",
        "~ vega  (suspended, and stays so)",
        "    name     Vega kurs  ->  Vega",
        "    arenas   mosjoen, online  ->  online",
        "? gone  (not in the file: left as it is; to hold it up: partners suspend gone --reason …)",
        "1 would be added, 1 would be changed, 0 as they were.",
    ]


def test_an_office_is_told_apart_without_a_word_of_its_address() -> None:
    _, public = sealing.generate()
    office = Office("kari@vega.example", "nn")
    letter = offices.sealed(public, office)
    kept = {"mail_digest": letter.digest, "mail_language": "nn"}
    assert offices.changes(office, kept) == {}, "given again, it is the same"
    assert offices.changes(None, NO_OFFICE) == {}
    assert offices.changes(office, NO_OFFICE) == {"mail": (None, "given"), "mail_language": (None, "nn")}
    assert offices.changes(Office("ola@vega.example", "nn"), kept) == {"mail": ("given", "another")}
    assert offices.changes(Office("kari@vega.example"), kept) == {"mail_language": ("nn", "nb")}
    assert offices.changes(None, kept) == {"mail": ("given", None), "mail_language": ("nn", None)}
    assert offices.sealed(public, office).digest != letter.digest, "the same address is not known again elsewhere"
    vega = read(GOOD.replace('"Vega"', '"Vega"\nmail = "Kari@VEGA.example"').encode())[1]
    assert vega.office == Office("Kari@vega.example", "nb")
    todo, _ = steps([vega], [])
    shown = "\n".join(differences(todo, [], False)) + repr((vega, todo, letter))
    assert "    mail     given" in shown
    assert "kari" not in shown.lower()
