"""A person changes where and in which language they are written to: their own, at once, for all their courses."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.enrolment import ContactGiven
from kit import sealing
from kit.auth import Caller
from services.notifier import bounces
from tests.integration.test_notifier_preferences import People, here
from tests.notifying import PRIVATE, PUBLIC
from tests.web import ISSUER

pytestmark = pytest.mark.anyio

PLACE = "/api/notifier/v1/me/contact"
NEW = {"email": "kari@example.com", "language": "en", "phone": "+4791234567"}

__all__ = ["here"]


async def read(here: People, who: str = "kari", **headers: str) -> Any:
    return await here.asking.get(PLACE, headers=here.signed(who) | headers)


async def write(here: People, body: Any, who: str = "kari", **headers: str) -> Any:
    return await here.asking.put(PLACE, json=body, headers=here.signed(who) | headers)


async def kept(here: People) -> list[tuple[str, str]]:
    return [
        tuple(row) for row in await here.world.rows("SELECT email, language FROM contacts ORDER BY email, language")
    ]


async def test_ones_contact_is_read_and_changed_by_ones_own_log_in(here: People) -> None:
    assert (await here.asking.get(PLACE)).status_code == 401
    for answer in (await read(here), await write(here, NEW)):
        assert answer.status_code == 404
        assert "You give one when you enrol" in answer.json()["detail"]
    assert await kept(here) == []
    await here.seated("kari")
    await here.seated("kari")
    await here.seated("ola")
    first = await read(here)
    assert first.json() == {"email": "kari@example.no", "language": "nb", "phone": None}
    assert "no-store" in first.headers["cache-control"]
    assert (await read(here, **{"if-none-match": first.headers["etag"]})).status_code == 304

    body = {"email": "Kari@EXAMPLE.com", "language": "en", "phone": "912 34 567"}
    changed = await write(here, body, **{"if-match": first.headers["etag"]})
    assert (changed.status_code, changed.json()) == (200, NEW | {"email": "Kari@example.com"})
    assert "no-store" in changed.headers["cache-control"]
    again = await read(here)
    assert (again.json(), again.headers["etag"]) == (changed.json(), changed.headers["etag"])
    assert await kept(here) == [("Kari@example.com", "en"), ("Kari@example.com", "en"), ("ola@example.no", "nb")]
    late = await write(here, NEW, **{"if-match": first.headers["etag"]})
    assert late.status_code == 412
    assert (await read(here)).json() == changed.json()


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"email": "kari", "language": "nb"}, "email", "must be a mail address such as kari@example.no"),
        ({"email": f"{'k' * 320}@example.no", "language": "nb"}, "email", "320"),
        ({"email": "kari@example.no", "language": "xx"}, "language", "'nb'"),
        ({"email": "kari@example.no"}, "language", "is missing"),
        ({**NEW, "phone": "12345678"}, "phone", "must be a phone number such as 912 34 567"),
        ({**NEW, "phone": ""}, "phone", "must be a phone number"),
        ({**NEW, "phone": 91234567}, "phone", "must be a text"),
        ({**NEW, "name": "Kari"}, "name", "not"),
    ],
)
async def test_what_is_no_contact_is_refused_by_name(here: People, body: Any, field: str, words: str) -> None:
    await here.seated("kari")
    refused = await write(here, body)
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error["field"] == field
    assert words in error["detail"]
    assert await kept(here) == [("kari@example.no", "nb")]


async def test_a_change_sent_twice_is_made_once_and_its_kept_answer_has_no_address(here: People, capfd: Any) -> None:
    await here.seated("kari")
    body = {"email": "canary@example.com", "language": "nn", "phone": "+4791199119"}
    first = await write(here, body, **{"idempotency-key": "one"})
    await write(here, NEW)
    second = await write(here, body, **{"idempotency-key": "one"})
    assert (second.status_code, second.json()) == (200, body)
    assert (second.json(), second.headers["etag"]) == (first.json(), first.headers["etag"])
    assert second.headers["idempotency-replayed"] == "true"
    assert await kept(here) == [("kari@example.com", "en")]
    await write(here, body)
    tables = await here.world.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {"idempotency", "outbox", "contacts"} <= {row["tablename"] for row in tables}
    has = [
        row["tablename"]
        for row in tables
        if await here.world.rows(
            f'SELECT FROM "{row["tablename"]}" AS one WHERE to_jsonb(one)::text ~* $1',
            f"canary|{b'canary'.hex()}|91199119|{b'91199119'.hex()}",
        )
    ]
    assert has == ["contacts"]
    said = "".join(capfd.readouterr())
    assert "canary" not in said
    assert "91199119" not in said


async def test_what_is_owed_goes_to_the_new_address_though_the_old_was_bad(here: People) -> None:
    await here.seated("kari")
    here.sink.rcpt = ["550 5.1.1 no such person here"]
    async with here.world.sending():
        await here.count(failed=1)
    async with here.world.sending():
        await here.course_changes(2)
        await here.count(failed=1, suppressed=1)
    assert (await write(here, NEW)).status_code == 200
    assert await here.world.rows("SELECT FROM bounced_addresses") == []
    assert await here.world.states() == {"failed": 1, "suppressed": 1}, "what was not sent is not sent now"
    async with here.world.sending():
        await here.course_changes(3)
        await here.count(failed=1, suppressed=1, sent=1)
    assert here.sink.recipients()[-1] == "kari@example.com"


async def test_a_new_address_that_is_bad_is_not_written_to(here: People) -> None:
    await here.seated("ola")
    here.sink.rcpt = ["550 5.1.1 no such person here"]
    async with here.world.sending():
        await here.count(failed=1)
    await here.seated("kari")
    assert (await write(here, {"email": "Ola@example.no", "language": "nb"})).status_code == 200
    async with here.world.sending():
        await here.count(failed=1, suppressed=1)
    assert here.sink.seen == []
    [row] = await here.world.rows("SELECT address FROM bounced_addresses")
    assert row["address"] in bounces.digests(PRIVATE, "ola@example.no")


async def given(here: People, learner: uuid.UUID, email: str, at: datetime, **more: str) -> None:
    letter = {"email": email, "name": "Kari", "language": "nb", "login": Caller(ISSUER, "kari").key, **more}
    said = ContactGiven(learner_id=learner, sealed=sealing.seal(PUBLIC, letter))
    await here.world.hear(here.world.contacts, [said], at=at)


async def test_what_was_said_before_the_change_does_not_undo_it_and_what_is_said_after_does(here: People) -> None:
    learner, now = uuid.uuid4(), datetime.now(UTC)
    await given(here, learner, "kari@example.no", now - timedelta(minutes=5))
    assert (await write(here, NEW)).status_code == 200
    await given(here, learner, "kari@example.org", now - timedelta(minutes=1))  # heard late, or said again
    assert (await read(here)).json() == NEW
    await given(here, learner, "kari@example.net", now + timedelta(minutes=1))
    assert (await read(here)).json() == {**NEW, "email": "kari@example.net"}


async def test_a_language_that_was_chosen_survives_new_enrolments_and_before_that_the_newest_rules(
    here: People,
) -> None:
    learner, now = uuid.uuid4(), datetime.now(UTC)

    async def language() -> Any:
        return (await read(here)).json()["language"]

    await given(here, learner, "kari@example.no", now - timedelta(minutes=9))
    await given(here, learner, "kari@example.no", now - timedelta(minutes=8), language="en")
    assert await language() == "en", "nothing was chosen yet"
    assert (await write(here, {"email": "kari@example.no", "language": "sma"})).status_code == 200
    await given(here, learner, "kari@example.no", now + timedelta(minutes=1), language="nn")
    assert await language() == "sma"
    assert (await write(here, {"email": "kari@example.no", "language": "nb"})).status_code == 200
    assert await language() == "nb"


async def test_a_language_that_was_only_sent_along_with_another_change_was_not_chosen(here: People) -> None:
    """The form always has one. Red control: who gave a phone in passing is written to in the old language for ever."""
    learner, now = uuid.uuid4(), datetime.now(UTC)
    await given(here, learner, "kari@example.no", now - timedelta(minutes=9))
    body = {"email": "kari@example.no", "language": "nb", "phone": "+4791234567"}
    assert (await write(here, body)).status_code == 200
    await given(here, learner, "kari@example.no", now - timedelta(minutes=8), language="sma")  # heard late
    assert (await read(here)).json() == body, "it is older than their own word"
    await given(here, learner, "kari@example.no", now + timedelta(minutes=1), language="en")
    assert (await read(here)).json() == body | {"language": "en"}
    for chosen in ({"language": "nn"}, {"language": "nn", "phone": "+4792345678"}):  # and then it stays chosen
        assert (await write(here, body | chosen)).status_code == 200
    await given(here, learner, "kari@example.no", now + timedelta(minutes=2), language="en")
    assert (await read(here)).json()["language"] == "nn"


async def test_of_one_who_is_known_as_several_the_language_that_is_shown_is_the_one_that_was_changed(
    here: People,
) -> None:
    """Red control: the learner whose language was another all along counts as having chosen the one shown."""
    first, second, now = uuid.uuid4(), uuid.uuid4(), datetime.now(UTC)
    await given(here, first, "kari@example.no", now - timedelta(minutes=9))
    await given(here, second, "kari@example.no", now - timedelta(minutes=8), language="en")
    assert (await write(here, {"email": "kari@example.com", "language": "en"})).status_code == 200
    assert await kept(here) == [("kari@example.com", "en")] * 2
    await given(here, first, "kari@example.com", now + timedelta(minutes=1), language="nn")
    assert await kept(here) == [("kari@example.com", "en"), ("kari@example.com", "nn")]


async def test_a_language_that_was_chosen_is_that_of_the_same_log_in_as_another_learner(here: People) -> None:
    """As after a restore of enrolment that lost the first. Red control: they are written to in the form's language."""
    first, second, other, now = uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), datetime.now(UTC)
    await given(here, first, "kari@example.no", now - timedelta(minutes=9))
    assert (await write(here, {"email": "kari@example.no", "language": "sma"})).status_code == 200
    for minutes in (1, 2):
        await given(here, second, "kari@example.com", now + timedelta(minutes=minutes), language="en")
        assert await kept(here) == [("kari@example.com", "sma"), ("kari@example.no", "sma")]
    await here.world.rows("DELETE FROM contacts WHERE learner_id = $1", first)
    await given(here, second, "kari@example.com", now + timedelta(minutes=3), language="en")
    assert await kept(here) == [("kari@example.com", "sma")], "it was chosen by this learner as well"
    await given(here, other, "ola@example.no", now, language="en", login=Caller(ISSUER, "ola").key)
    assert ("ola@example.no", "en") in await kept(here), "another person has chosen nothing"


async def test_a_phone_stays_until_another_is_given_or_it_is_taken_out_by_its_person(here: People) -> None:
    learner, now = uuid.uuid4(), datetime.now(UTC)

    async def phone() -> Any:
        return (await read(here)).json()["phone"]

    await given(here, learner, "kari@example.no", now - timedelta(minutes=9), phone="+4791234567")
    await given(here, learner, "kari@example.no", now - timedelta(minutes=8))
    assert await phone() == "+4791234567", "who gives none this time has the one from before"
    await given(here, learner, "kari@example.no", now - timedelta(minutes=7), phone="+4792345678")
    assert await phone() == "+4792345678"
    assert (await write(here, {"email": "kari@example.no", "language": "nb"})).status_code == 200
    assert await phone() is None
    await given(here, learner, "kari@example.no", now - timedelta(minutes=6), phone="+4791234567")  # heard late
    assert await phone() is None
    letters = [{"phone": "+4791234567"}, {}]  # of one batch, the later without
    said = [
        ContactGiven(
            learner_id=learner, sealed=sealing.seal(PUBLIC, {"email": "kari@example.no", "language": "nb"} | one)
        )
        for one in letters
    ]
    await here.world.hear(here.world.contacts, said, at=now + timedelta(minutes=1))
    assert await phone() == "+4791234567"


async def test_a_phone_that_its_person_took_out_does_not_come_back_by_letters_that_are_heard_together(
    here: People,
) -> None:
    """One was said before, with it, and one after, without. Red control: folded into one, the phone is said after."""
    learner, now = uuid.uuid4(), datetime.now(UTC)
    await given(here, learner, "kari@example.no", now - timedelta(minutes=9), phone="+4791234567")
    assert (await write(here, {"email": "kari@example.no", "language": "nb"})).status_code == 200
    letters: list[tuple[dict[str, str], int]] = [({"phone": "+4791234567"}, -1), ({}, 1)]
    records = []
    for more, minutes in letters:
        sealed = sealing.seal(PUBLIC, {"email": "kari@example.no", "language": "nn"} | more)
        said = ContactGiven(learner_id=learner, sealed=sealed)
        records += here.world.records([said], at=now + timedelta(minutes=minutes))
    received = [here.world.contacts.read(one) for one in records]
    await here.world.here.database.run(lambda conn: here.world.contacts.tell(conn, received), "consumer")
    assert (await read(here)).json() == {"email": "kari@example.no", "language": "nn", "phone": None}


async def test_of_two_who_change_what_they_have_read_one_is_told_that_it_is_old(here: People) -> None:
    await here.seated("kari")
    tag = (await read(here)).headers["etag"]
    bodies = [{"email": f"kari{number}@example.com", "language": "nb"} for number in range(4)]
    answers = await asyncio.gather(*(write(here, body, **{"if-match": tag}) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
