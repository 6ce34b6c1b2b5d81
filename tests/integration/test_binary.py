"""Events of partners in binary mode, attributes in headers, data alone in the value: judged as in structured mode."""

import json
from typing import Any

import pytest

from services.catalogue import events
from tests.delivery import Servers, listening, until
from tests.integration import corpus
from tests.integration.corpus import COURSE, COURSES, DATES, OFFERINGS, RULES, event
from tests.integration.test_catalogue import World, world
from tests.integration.test_corpus import ANY_NUMBER, Said, is_told, outcomes, send

pytestmark = pytest.mark.anyio

RUN = {"course_code": "SV-1", "key": "v27"}
# In a header everything is text, so that a number is one too.
TAKEN_HERE = {"an id as a number"}


def binary(said: dict[str, Any], value: bytes | None = b"", key: bytes | None = b"SV-1") -> Said:
    """An event in binary mode; `value` lies in place of its data."""
    headers = [(f"ce_{name}", str(it).encode()) for name, it in said.items() if name != "data"]
    data = json.dumps(said["data"]).encode() if value == b"" else value
    return key, data, [*headers, ("content-type", b"application/json")]


async def taken(here: World, count: int) -> list[tuple[str | None, str | None]]:
    """What was taken over Kafka, oldest first, when it is so much: (what, the sender's id)."""

    async def so_many() -> Any:
        items = [one for one in await here.intake() if one["way"] == "kafka"]
        return items if len(items) == count else None

    return [(one["what"], one["event_id"]) for one in reversed(await until(so_many, within_s=40))]


async def test_what_a_partner_says_in_binary_mode_is_taken_as_in_structured_mode(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        said = [
            event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}, id="1", subject="SV-1"),
            event(here.partner, "OfferingPublished", {**RUN, **DATES}, id="2", time="2049-01-04T12:00:00+01:00"),
            event(here.partner, "OfferingRetracted", {**RUN, "reason": "ærlig talt"}, id="3"),
            event(here.partner, "CourseRetracted", {"code": "SV-1", "confirmed": True}, id="4"),
        ]
        first = [binary(one) for one in said]
        again: list[Said] = [
            (b"SV-1", json.dumps(one).encode(), []) for one in said
        ]  # the same four, structured: heard already
        last = binary(event(here.partner, "CoursePublished", {"code": "SV-2", **COURSE}, id="5"))
        await send(here, [*first, *again, last])
        whats = ["CoursePublished", "OfferingPublished", "OfferingRetracted", "CourseRetracted", "CoursePublished"]
        assert await taken(here, 5) == list(zip(whats, "12345", strict=True))
        assert [kind for kind, _ in await here.said() if kind != "PartnerJoined"] == [
            "CourseCreated",
            "OfferingScheduled",
            "OfferingCancelled",
            "CourseWithdrawn",
            "CourseCreated",
        ]


async def test_what_will_not_do_in_binary_mode_is_refused_with_the_reason_of_structured_mode(servers: Servers) -> None:
    async with world(servers, quarantine_refused=ANY_NUMBER) as here, listening(here.here, events.partners()):
        good = event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE})
        said: list[Said] = [binary(good)]
        expected: list[tuple[str, str | None, str, str]] = [("a good one", None, "", "")]
        for kind, address, whole, bad in (
            ("CoursePublished", {"code": "SV-1"}, COURSE, COURSES),
            ("OfferingPublished", RUN, DATES, OFFERINGS | RULES),
        ):
            for name, one in bad.items():
                said.append(binary(event(here.partner, kind, {**address, **whole, **one.said})))
                expected.append((name, one.reason, one.field, one.says))
        for name, body in corpus.BODIES.items():
            said.append(binary(event(here.partner, "CoursePublished", None), body.body))
            expected.append((name, body.reason, "", ""))
        for name, around in corpus.ENVELOPES.items():
            key, value, headers = binary(
                event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}) | around.said, key=around.key
            )
            own = dict(around.headers)
            said.append((key, value, [*(one for one in headers if one[0] not in own), *around.headers]))
            expected.append((name, None if name in TAKEN_HERE else around.reason, around.field, ""))
        for name, value in (("a tombstone", None), ("one byte too many", corpus.ONE_BYTE_OVER)):
            said.append(binary(event(here.partner, "CoursePublished", None), value))
            expected.append((name, "empty" if value is None else "too_large", "", ""))
        await send(here, said)
        found = await outcomes(here, len(said))
        pairs = list(zip(expected, found, strict=True))
        wrong = {
            name: row
            for (name, reason, field, says), row in pairs
            if not (is_told(row, reason, field, says) if field else row["reason"] == reason)
        }
        assert not wrong
        assert {kind for kind, _ in await here.said()} <= {"PartnerJoined", "CourseCreated", "OfferingScheduled"} | {
            "CourseChanged",
            "OfferingChanged",
        }


@pytest.mark.parametrize("missing", ["ce_specversion", "ce_id", "ce_source", "ce_type"])
async def test_a_required_attribute_that_is_left_out_is_told_by_its_name(servers: Servers, missing: str) -> None:
    """But for the version, of which there is one."""
    async with world(servers, quarantine_refused=ANY_NUMBER) as here, listening(here.here, events.partners()):
        key, value, headers = binary(event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}))
        await send(here, [(key, value, [one for one in headers if one[0] != missing])])
        [row] = await outcomes(here, 1)
        reason = None if missing == "ce_specversion" else "invalid"
        assert is_told(row, reason, missing.removeprefix("ce_"), "is missing")
