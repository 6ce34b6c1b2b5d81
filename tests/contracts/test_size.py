"""The largest event that the limits let through is smaller than what a topic takes."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import pytest

from contracts.catalogue import CourseChanged, OfferingChanged
from contracts.envelope import Envelope, Event, decode, encode
from contracts.fields import Language
from contracts.partner import CoursePublished, CourseRetracted, OfferingPublished, OfferingRetracted
from contracts.topics import MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_PARKED_BYTES

WIDE = "\U00010437"  # a letter of four bytes in UTF-8, and no letter takes more
CODE = "A" * 60
SLUG = "a" * 40
LANGUAGES = get_args(Language)
NOW = datetime(2027, 2, 1, 16, 0, 0, 123_456, tzinfo=UTC)


def largest_course(wide: str) -> dict[str, Any]:
    return {
        "title": dict.fromkeys(LANGUAGES, wide * 200),
        "summary": dict.fromkeys(LANGUAGES, wide * 2_000),
        "description": dict.fromkeys(LANGUAGES, wide * 8_000),
        "subjects": [SLUG] * 10,
        "delivery_mode": "blended",
        "studiepoeng": "999.99",
        "level": "5.1",
        "price_ore": 100_000_000,
    }


def largest_offering(wide: str) -> dict[str, Any]:
    sessions = [
        {"starts_at": NOW + timedelta(days=n), "ends_at": NOW + timedelta(days=n, hours=3), "room": wide * 200}
        for n in range(200)
    ]
    places = [{"arena": f"{'a' * 37}-{n:02}", "capacity": 100_000} for n in range(20)]
    return {"starts_at": NOW, "ends_at": NOW + timedelta(days=200), "sessions": sessions, "places": places}


def sent(event: Event) -> bytes:
    """The event with every attribute of its envelope as long as it may be."""
    attributes: dict[str, Any] = dict.fromkeys(Envelope.model_fields, WIDE * 200)
    attributes |= {"specversion": "1.0", "time": NOW, "epoch": 2**31 - 1, "seq": 2**31 - 1}
    attributes |= {"type": event.spec.type, "datacontenttype": "application/json", "aggregate": WIDE * 250}
    return encode(Envelope.model_validate({**attributes, "data": event.model_dump(mode="json")}))


def partner_events(wide: str) -> list[Event]:
    seq = 2**53 - 1
    return [
        CoursePublished.model_validate({**largest_course(wide), "code": CODE, "seq": seq}),
        CourseRetracted(code=CODE, seq=seq),
        OfferingPublished.model_validate({**largest_offering(wide), "course_code": CODE, "key": CODE, "seq": seq}),
        OfferingRetracted(course_code=CODE, key=CODE, reason=wide * 8_000, seq=seq),
    ]


def catalogue_events(wide: str) -> list[Event]:
    ids = {"course_id": UUID(int=1), "partner": SLUG, "version": 2**31 - 1}
    return [
        CourseChanged.model_validate({**largest_course(wide), **ids, "code": CODE}),
        OfferingChanged.model_validate({**largest_offering(wide), **ids, "offering_id": UUID(int=2), "key": CODE}),
    ]


@pytest.mark.parametrize("event", partner_events(WIDE) + catalogue_events(WIDE), ids=lambda event: type(event).__name__)
def test_the_largest_event_is_smaller_than_an_event_may_be(event: Event) -> None:
    value = sent(event)
    assert len(value) < MAX_EVENT_BYTES
    assert type(event).model_validate(decode(value, []).data) == event


def test_the_readme_tells_the_size_of_the_largest_course() -> None:
    data = CoursePublished.model_validate({**largest_course(WIDE), "code": CODE}).model_dump_json().encode()
    assert round(len(data) / 1000, -1) == 200


def test_a_limit_more_would_not_hold() -> None:
    # The control: with summaries as long as descriptions the largest course is too large.
    course = CourseChanged.model_validate(
        {**largest_course(WIDE), "summary": dict.fromkeys(LANGUAGES, WIDE * 8_000), "course_id": UUID(int=1),
         "partner": SLUG, "version": 1, "code": CODE}
    )  # fmt: skip
    assert len(sent(course)) > MAX_EVENT_BYTES


def test_a_batch_has_room_for_an_event_with_its_key_and_headers() -> None:
    assert MAX_EVENT_BYTES + 64 * 1024 < MAX_BATCH_BYTES
    assert MAX_BATCH_BYTES + 64 * 1024 < MAX_PARKED_BYTES
