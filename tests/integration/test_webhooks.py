"""Partners hear of their own courses at their own addresses: signed, in order, once owed, and tried for three days."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from standardwebhooks import WebhookVerificationError

from contracts.enrolment import OfferingFilled, SeatCount, SeatOffered
from contracts.topics import TOLD_TO_PARTNERS, TOPICS
from kit import logs, outbox, topics
from kit.database import Connection, connect
from services.notifier import deliveries, partners, webhooks
from services.notifier.app import LOG_FIELDS
from services.notifier.channels import webhook as channel
from services.notifier.channels.webhook import Answer, Call, Webhook
from services.notifier.deliveries import Deliverer
from services.notifier.guard import Guard
from services.notifier.store import deliveries as store
from services.notifier.store import webhooks as hook_store
from tests.calling import BASE, Calling, Hooks, calling_notifier, listening_hooks, silence
from tests.delivery import Servers, listening, relaying, until

pytestmark = pytest.mark.anyio

LATER = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture
async def hooks() -> AsyncIterator[Hooks]:
    async with listening_hooks() as hooks:
        yield hooks


@pytest.fixture
async def world(servers: Servers, hooks: Hooks) -> AsyncIterator[Calling]:
    async with calling_notifier(servers, hooks) as world:
        yield world


async def came(hooks: Hooks, count: int) -> list[Any]:
    async def enough() -> bool:
        return len(hooks.came) >= count

    await until(enough)
    return hooks.came


async def test_a_partner_is_told_of_its_own_courses_in_a_signed_post(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    learner = world.about(uuid.uuid4())
    offered = SeatOffered(
        **learner, offer_id=uuid.uuid4(), place="mosjoen", expires_at=LATER, on_lapse="leave", sealed="x.y.z"
    )
    seats = [SeatCount(arena="mosjoen", capacity=1, taken=1, queued=0)]
    about = {name: learner[name] for name in ("offering_id", "course_id", "partner")}
    await world.happens(world.created(), world.created(course=uuid.uuid4(), partner="ytre-helgeland"))
    await world.happens(offered, OfferingFilled(**about, seats=seats))
    async with world.calling():
        await world.all_delivered(3)
    assert sorted(one.kind for one in hooks.came) == ["CourseCreated", "OfferingFilled", "SeatOffered"]
    for one in hooks.came:
        event = one.verified(made["secret"])
        assert one.headers["webhook-id"] == f"{event['id']}_{made['id']}"
        assert one.headers["content-type"] == "application/cloudevents+json"
        assert event["specversion"] == "1.0"
        assert event["partner"] == "torgar"
        assert {"traceparent", "causationid"}.isdisjoint(event)
        assert "sealed" not in event["data"]
        assert b"x.y.z" not in one.body
    with pytest.raises(WebhookVerificationError):
        hooks.came[0].__class__(one.path, one.headers, one.body + b" ").verified(made["secret"])
    titles = [one.event["data"]["title"] for one in hooks.came if one.kind == "CourseCreated"]
    assert titles == [{"nb": "Ledelse på Åsen"}]
    log = await world.log(made["id"])
    assert [(one["state"], one["attempts"], one["status_code"]) for one in log] == [("delivered", 1, 200)] * 3


async def test_a_webhook_gets_the_types_that_it_wants(world: Calling, hooks: Hooks) -> None:
    await world.webhook("/named", ["LearnerEnrolled"])
    await world.webhook("/typed", ["no.kursnett.catalogue.CourseCreated.v1"])
    await world.happens(world.created())
    await world.happens(world.enrolled())
    async with world.calling():
        await world.all_delivered(2)
    assert [one.kind for one in hooks.at("/named")] == ["LearnerEnrolled"]
    assert [one.kind for one in hooks.at("/typed")] == ["CourseCreated"]


async def heard_twice(world: Calling) -> int:
    """How often one event is owed that the webhook's consumer is given twice, past its inbox."""
    event, event_id = world.enrolled(), uuid.uuid4()
    for _ in range(2):
        await world.happens(event, event_id=event_id)
    return sum([await world.count(state) for state in ("pending", "delivered")])


async def test_an_event_heard_again_owes_nothing_more_before_or_after_it_was_told(world: Calling) -> None:
    await world.webhook()
    assert await heard_twice(world) == 1
    async with world.calling():
        await world.all_delivered(1)
    event_id = (await world.rows("SELECT event_id FROM webhook_deliveries"))[0]["event_id"]
    await world.happens(world.enrolled(), event_id=uuid.UUID(event_id))
    assert (await world.count("pending"), await world.count("delivered")) == (0, 1)


async def test_without_the_constraint_an_event_heard_twice_is_owed_twice(
    world: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.webhook()
    await world.rows("ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_once")
    await world.rows("ALTER TABLE webhook_deliveries ADD CONSTRAINT webhook_deliveries_once UNIQUE (id, event_id)")
    assert await heard_twice(world) == 2


async def test_what_is_not_taken_is_tried_again_with_the_same_id_and_a_new_time(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    hooks.answers["/hook"] = [500, (302, {"location": hooks.url("/elsewhere")}), silence]
    await world.happens(world.enrolled())
    async with world.calling():
        for attempt in (1, 2):
            await came(hooks, attempt)
            await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'deferred'"))
            [row] = await world.rows(
                "SELECT *, extract(epoch FROM due_at - updated_at)::float AS s FROM webhook_deliveries"
            )
            assert row["reason"] == ("answer_500", "redirect")[attempt - 1]
            least = (2.5, 7.5)[attempt - 1]
            assert least <= row["s"] <= 3 * least
            await world.hurry_webhooks()
        await came(hooks, 3)
    assert not hooks.at("/elsewhere")
    [row] = await world.rows("SELECT * FROM webhook_deliveries")
    assert (row["state"], row["reason"], row["status_code"]) == ("deferred", "timed_out", None)
    async with world.calling():
        await world.hurry_webhooks()
        await world.all_delivered(1)
    assert len({one.headers["webhook-id"] for one in hooks.came}) == 1
    assert len({one.body for one in hooks.came}) == 1
    assert hooks.came[-1].verified(made["secret"])
    assert (await world.log(made["id"]))[0]["attempts"] == 4


def test_the_first_two_tries_again_come_within_a_minute_and_all_within_three_days() -> None:
    longest = [1.5 * pause for pause in deliveries.PAUSES_S]
    assert longest[0] + longest[1] + 2 * channel.TOTAL_S <= 60
    shortest = [0.5 * pause for pause in deliveries.PAUSES_S]
    assert sorted(shortest) == shortest
    many = [deliveries.delay_s(number) for number in range(1, 100)]
    assert all(0.5 * 12 * 3600 <= one <= 1.5 * 12 * 3600 for one in many[len(longest) :])


async def test_it_is_given_up_after_three_days_and_not_before(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    hooks.always["/hook"] = 500
    await world.happens(world.enrolled())
    await world.rows("UPDATE webhook_deliveries SET owed_at = app_now() - interval '71 hours 59 minutes', failures = 9")
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'deferred'"))
        [row] = await world.rows("SELECT due_at <= owed_at + interval '72 hours' AS fits FROM webhook_deliveries")
        assert row["fits"]
        await world.rows("UPDATE webhook_deliveries SET owed_at = app_now() - interval '72 hours', due_at = app_now()")
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'failed'"))
    [last] = await world.log(made["id"])
    assert (last["reason"], last["status_code"], last["attempts"], last["next_try_at"]) == ("gave_up", 500, 2, None)


async def test_gone_turns_it_off_and_a_test_that_is_taken_on_again(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    hooks.answers["/hook"] = [410]
    course = uuid.uuid4()
    await world.happens(world.created(1, course), world.created(2, course))
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhooks WHERE state = 'off'"))
        assert [(one["state"], one["reason"]) for one in await world.log(made["id"])] == [
            ("failed", "webhook_off"),
            ("failed", "gone"),
        ]
        await world.happens(world.enrolled())
        assert len(await world.log(made["id"])) == 2
        again = {"from": "2020-01-01T00:00:00Z"}
        assert (await world.ask("POST", f"/{made['id']}/replay", json=again)).status_code == 409
        assert (await world.ask("POST", f"/{made['id']}/test")).status_code == 202
        await until(lambda: world.rows("SELECT FROM webhooks WHERE state = 'on'"))
        assert hooks.came[-1].kind == "WebhookTested"
        assert hooks.came[-1].verified(made["secret"])["data"] == {"webhook_id": made["id"]}
        assert (await world.ask("POST", f"/{made['id']}/replay", json=again)).json() == {"count": 3}
        await world.all_delivered(3)
    kinds = [one.kind for one in hooks.came]
    assert kinds[:2] == ["CourseCreated", "WebhookTested"]
    assert sorted(kinds[2:]) == ["CourseCreated", "CourseCreated", "WebhookTested"]


async def test_a_test_of_one_that_is_off_says_what_was_answered(world: Calling, hooks: Hooks) -> None:
    """Red control: that it is off, which its partner knew and wanted to mend."""
    made = await world.webhook()
    hooks.answers["/hook"] = [410, 500, 410]
    await world.happens(world.enrolled())
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhooks WHERE state = 'off'"))
        for answer in ("answer_500", "gone"):
            assert (await world.ask("POST", f"/{made['id']}/test")).status_code == 202

            async def over() -> bool:
                return not await world.rows("SELECT FROM webhook_deliveries WHERE state IN ('pending', 'sending')")

            await until(over)
            [test, *_] = await world.log(made["id"])
            assert (test["state"], test["reason"], test["next_try_at"]) == ("failed", answer, None)
        assert (await world.ask("GET", f"/{made['id']}")).json()["state"] == "off"


@pytest.mark.parametrize("status", [429, 503])
async def test_nothing_goes_there_before_retry_after(world: Calling, hooks: Hooks, status: int) -> None:
    await world.webhook()
    hooks.answers["/hook"] = [(status, {"retry-after": "120"})]
    await world.happens(world.enrolled())
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'deferred'"))
        await world.happens(world.enrolled())
        left = "extract(epoch FROM {} - app_now())::float"
        [row] = await world.rows(f"SELECT {left.format('rests_until')} AS s FROM webhooks")
        assert 100 < row["s"] <= 120
        [row] = await world.rows(
            f"SELECT {left.format('due_at')} AS s FROM webhook_deliveries WHERE state = 'deferred'"
        )
        assert 100 < row["s"] <= 120
        async with world.here.database.reading() as conn:
            assert await store.claim(conn, 100) == []
        await world.rows("UPDATE webhooks SET rests_until = app_now()")
        await world.all_delivered(2)  # what waited goes as soon as somebody answers


DATES_OF_NO_CALENDAR = (
    "Thu, 99999999999999999999 Jan 1970 00:00:00 GMT",  # a day, and a zone, that no integer of C holds
    "Thu, 01 Jan 2032 00:00:00 +9999999999999999",
)


def test_a_retry_after_is_a_number_or_a_date_and_never_more_than_an_hour() -> None:
    assert channel.seconds("7") == 7
    assert channel.seconds("99999999999999") == channel.MOST_WAIT_S
    assert channel.seconds("Fri, 31 Dec 2100 23:59:59 GMT") == channel.MOST_WAIT_S
    assert channel.seconds("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert [channel.seconds(text) for text in (None, "", "soon", "-1", "1e9", "²")] == [0] * 6
    assert [channel.seconds(text) for text in DATES_OF_NO_CALENDAR] == [0] * 2


async def test_a_retry_after_beyond_all_calendars_stops_no_other_webhook(world: Calling, hooks: Hooks) -> None:
    for path in ("/mad", "/well"):
        await world.webhook(path)
    hooks.answers["/mad"] = [(503, {"retry-after": one}) for one in DATES_OF_NO_CALENDAR]
    await world.happens(world.enrolled())
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'deferred'"))
        await world.hurry_webhooks()
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'deferred' AND attempts = 2"))
        await world.hurry_webhooks()
        await world.all_delivered(2)
    assert len(hooks.at("/well")) == 1


async def test_a_fault_of_ours_in_one_call_costs_no_other_webhook_its_turn(world: Calling, hooks: Hooks) -> None:
    class Faulty(Webhook):
        async def deliver(self, call: Call) -> Answer:
            if "/mad" in call.url:
                raise RuntimeError("what nobody has thought of")
            return await super().deliver(call)

    for path in ("/mad", "/well"):
        await world.webhook(path)
    await world.happens(world.enrolled())
    async with world.calling(Deliverer(world.settings, Faulty(webhooks.guard_of(world.settings)))):
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE reason = 'not_called'"))
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'delivered'"))
    assert len(hooks.at("/well")) == 1


async def test_each_key_keeps_its_order_while_others_go_on(world: Calling, hooks: Hooks) -> None:
    await world.webhook()
    courses = [uuid.uuid4() for _ in range(3)]
    hooks.answers["/hook"] = [500]
    await world.happens(*(world.created(version, course) for version in range(1, 6) for course in courses))
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'deferred'"))

        async def all_but_one_course() -> bool:
            return await world.count("delivered") == 10

        await until(all_but_one_course)
        await world.hurry_webhooks()
        await world.all_delivered(15)
    for course in courses:
        versions = [one.event["data"]["version"] for one in hooks.came if one.event["data"]["course_id"] == str(course)]
        assert versions in ([1, 2, 3, 4, 5], [1, 1, 2, 3, 4, 5])
    assert hooks.most_at_once["/hook"] <= store.EACH


async def test_what_was_sent_in_a_time_is_sent_again_when_asked(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    await world.happens(*(world.created(version) for version in range(1, 5)))
    async with world.calling():
        await world.all_delivered(4)
        await world.rows(
            """
            UPDATE webhook_deliveries SET created_at = created_at
                - interval '1 day' * (convert_from(body, 'UTF8')::json->'data'->>'version')::int
            """
        )
        now = datetime.now(UTC)
        span = {"from": (now - timedelta(days=3, hours=1)).isoformat(), "to": (now - timedelta(hours=47)).isoformat()}
        asked = await world.ask("POST", f"/{made['id']}/replay", json=span, **{"idempotency-key": "once"})
        assert (asked.status_code, asked.json()) == (202, {"count": 2})
        await came(hooks, 6)
        again = await world.ask("POST", f"/{made['id']}/replay", json=span, **{"idempotency-key": "once"})
        assert again.json() == {"count": 2}
        await world.all_delivered(4)
    assert [one.event["data"]["version"] for one in hooks.came] == [1, 2, 3, 4, 2, 3]
    ids = [one.headers["webhook-id"] for one in hooks.came]
    assert ids[4:] == ids[1:3]
    for wrong in ({}, {"from": "yesterday"}, {**span, "until": "x"}):
        assert (await world.ask("POST", f"/{made['id']}/replay", json=wrong)).status_code == 422


async def test_while_a_secret_rotates_both_sign(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    rotated = (await world.ask("POST", f"/{made['id']}/rotate")).json()
    assert rotated["secret"] != made["secret"]
    await world.happens(world.enrolled())
    async with world.calling():
        await world.all_delivered(1)
        assert hooks.came[0].headers["webhook-signature"].count("v1,") == 2
        for secret in (made["secret"], rotated["secret"]):
            assert hooks.came[0].verified(secret)
        await world.rows("UPDATE webhooks SET old_secret_until = app_now()")
        await world.happens(world.enrolled())
        await world.all_delivered(2)
    assert hooks.came[1].verified(rotated["secret"])
    with pytest.raises(WebhookVerificationError):
        hooks.came[1].verified(made["secret"])


async def test_who_asks_twice_for_a_new_secret_keeps_the_one_in_use(world: Calling, hooks: Hooks) -> None:
    """The first answer may have been lost. Red control: the second time only the two that nobody has would sign."""
    made = await world.webhook()
    lost, kept = [(await world.ask("POST", f"/{made['id']}/rotate")).json() for _ in range(2)]
    await world.happens(world.enrolled())
    async with world.calling():
        await world.all_delivered(1)
        for secret in (made["secret"], kept["secret"]):
            assert hooks.came[0].verified(secret)
        with pytest.raises(WebhookVerificationError):
            hooks.came[0].verified(lost["secret"])
        await world.rows("UPDATE webhooks SET old_secret_until = old_secret_until - interval '61 s'")
        later = (await world.ask("POST", f"/{made['id']}/rotate")).json()
        await world.happens(world.enrolled())
        await world.all_delivered(2)
    for secret in (kept["secret"], later["secret"]):
        assert hooks.came[1].verified(secret)
    with pytest.raises(WebhookVerificationError):
        hooks.came[1].verified(made["secret"])


@pytest.fixture
def logging_all() -> Iterator[None]:
    """The log as a process writes it, at its most talkative."""
    root = logging.getLogger()
    before, structured = (root.handlers[:], root.level), structlog.get_config()
    logs.configure("notifier", "debug", LOG_FIELDS)
    yield
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**structured)


async def test_a_secret_lies_nowhere_open_and_is_shown_once(
    world: Calling, hooks: Hooks, logging_all: None, capsys: pytest.CaptureFixture[str]
) -> None:
    url = hooks.url("/hook?token=canary-in-the-address")
    body = {"url": url, "events": ["*"]}
    first, again = [await world.ask("POST", json=body, **{"idempotency-key": "k"}) for _ in range(2)]
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    made = first.json()
    hooks.always["/hook?token=canary-in-the-address"] = 500
    await world.happens(world.enrolled())
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = 'deferred'"))
    assert hooks.came[0].verified(made["secret"])
    shown = await world.ask("GET", f"/{made['id']}")
    assert "secret" not in shown.json()
    assert made["secret"] not in (await world.ask("GET")).text
    bare = made["secret"].removeprefix("whsec_")
    for table in ("webhooks", "webhook_deliveries", "idempotency", "outbox", "inbox"):
        for row in await world.rows(f"SELECT t::text, to_jsonb(t)::text AS j FROM {table} AS t"):
            assert bare not in row["t"] + row["j"]
            assert bare.encode().hex() not in row["t"]
    said = capsys.readouterr().out
    assert "webhook_not_taken" in said
    for canary in (bare, "canary", f":{hooks.port}", "Ledelse"):
        assert canary not in said


async def test_what_a_killed_worker_had_in_hand_is_taken_up_again(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    await world.happens(*(world.enrolled() for _ in range(6)))
    async with world.here.database.reading() as conn:
        lost = await store.claim(conn, 100)
    assert len(lost) == store.EACH
    async with world.calling():

        async def idle() -> bool:
            return await world.count("pending") == 2 and await world.count("sending") == 4

        assert await idle()  # the share of this webhook is in hand, for all that is known
        await world.rows(
            "UPDATE webhook_deliveries SET sending_since = sending_since - interval '31 s' WHERE state = 'sending'"
        )
        await world.all_delivered(6)
        late = store.Outcome(lost[0], channel.Answer(500, "answer_500"), 5.0)
        async with world.here.database.reading() as conn:
            assert await store.note(conn, [late]) == []  # it comes back, and has nothing to say any more
    assert [one["state"] for one in await world.log(made["id"])] == ["delivered"] * 6


async def test_two_workers_beside_each_other_send_each_thing_once(world: Calling, hooks: Hooks) -> None:
    for number in range(4):
        await world.webhook(f"/{number}")
    await world.happens(*(world.enrolled() for _ in range(50)))
    async with world.calling(world.deliverer(), world.deliverer()):
        await world.all_delivered(200)
    assert len({one.headers["webhook-id"] for one in hooks.came}) == len(hooks.came) == 200


NAIVE = """
UPDATE webhook_deliveries AS one SET
    state = 'sending', sending_since = app_now(), updated_at = app_now(), attempts = one.attempts + 1
FROM webhooks AS webhook
WHERE webhook.id = one.webhook_id AND one.id IN (
    SELECT id FROM webhook_deliveries WHERE state IN ('pending', 'deferred') AND due_at <= app_now()
    ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING one.id, one.webhook_id, one.event_id, one.type, one.key, one.attempts AS attempt, one.failures,
          one.body, one.correlation_id, one.traceparent, webhook.url, false AS failing, false AS off,
          ARRAY[webhook.secret] AS secrets
"""


async def first_come(conn: Connection, most: int) -> Sequence[store.Claimed]:
    """What a claim without shares takes: the oldest, whosever they are."""
    return [store.Claimed(**dict(row)) for row in await conn.fetch(NAIVE, most)]


async def one_is_dead(world: Calling, hooks: Hooks) -> dict[str, int]:
    """How much reached each of ten webhooks, the first of which says nothing, while its long line is in hand."""
    dead = await world.webhook("/0", ["CourseCreated"])
    hooks.always["/0"] = silence
    await world.happens(*(world.created(course=uuid.uuid4()) for _ in range(3 * deliveries.MOST)))
    for number in range(1, 10):
        await world.webhook(f"/{number}", ["LearnerEnrolled"])
    await world.happens(*(world.enrolled() for _ in range(20)))
    async with world.calling():
        await until(
            lambda: world.rows(
                "SELECT FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'sending'", uuid.UUID(dead["id"])
            )
        )

        async def others_are_done_or_the_dead_one_gave_up() -> bool:
            [row] = await world.rows(
                "SELECT count(*) FROM webhook_deliveries WHERE state = 'delivered' OR state = 'deferred'"
            )
            return int(row["count"]) >= 180

        await until(others_are_done_or_the_dead_one_gave_up, 60)
        [row] = await world.rows("SELECT count(*) FROM webhook_deliveries WHERE state = 'deferred'")
        told = {path: len(hooks.at(path)) for path in (f"/{number}" for number in range(10))}
        await world.rows("UPDATE webhooks SET state = 'off', reason = 'test' WHERE id = $1", uuid.UUID(dead["id"]))
    return told | {"deferred": int(row["count"])}


async def test_a_dead_webhook_with_a_long_line_delays_no_other(world: Calling, hooks: Hooks) -> None:
    told = await one_is_dead(world, hooks)
    assert [told[f"/{number}"] for number in range(1, 10)] == [20] * 9
    assert told["/0"] <= 2 * store.EACH
    assert hooks.most_at_once["/0"] <= store.EACH


async def test_without_shares_a_dead_webhook_holds_all_that_can_be_in_hand(
    world: Calling, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "claim", first_come)
    told = await one_is_dead(world, hooks)
    assert hooks.most_at_once["/0"] == deliveries.MOST
    assert told["deferred"] >= deliveries.MOST  # the others had to wait until these had timed out


async def test_one_that_nobody_answers_at_rests_longer_and_longer_and_is_caught_up_when_back(
    world: Calling, hooks: Hooks
) -> None:
    await world.webhook()
    hooks.always["/hook"] = 503
    await world.happens(*(world.enrolled() for _ in range(3)))
    rests = []
    async with world.calling():
        for turn in range(4):
            seen = len(hooks.came)
            await world.rows(
                "UPDATE webhooks SET failing_since = app_now() - interval '2 minutes', failures = $1", turn + 4
            )
            await world.hurry_webhooks()
            await came(hooks, seen + 1)
            await until(lambda: world.rows("SELECT FROM webhooks WHERE rests_until > app_now()"))
            [row] = await world.rows("SELECT extract(epoch FROM rests_until - app_now())::float AS s FROM webhooks")
            rests.append(row["s"])
        assert all(0.4 * 2 ** (n + 5) < rest <= 1.5 * 2 ** (n + 5) for n, rest in enumerate(rests))
        hooks.always["/hook"] = 200
        await world.rows("UPDATE webhooks SET rests_until = app_now()")
        await world.rows(
            "UPDATE webhook_deliveries SET due_at = app_now() WHERE id = (SELECT min(id) FROM webhook_deliveries)"
        )
        await world.all_delivered(3)  # the others did not wait for their own hour
    [row] = await world.rows("SELECT failures, failing_since FROM webhooks")
    assert dict(row) == {"failures": 0, "failing_since": None}


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
    while not reader.at_eof():
        writer.write(b"x" * 65536)
        await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for letter in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok":
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(1)


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not reader.at_eof():
        writer.write(b"x-more: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


async def hung_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (endless_body, "delivered", None),
        (dripping, "deferred", "timed_out"),
        (endless_headers, "deferred", "no_answer"),
        (not_http, "deferred", "no_answer"),
        (hung_up, "deferred", "no_answer"),
    ],
)
async def test_an_answer_without_end_or_sense_costs_only_its_own_attempt(
    world: Calling, hooks: Hooks, answer: Any, state: str, reason: str | None
) -> None:
    await world.webhook()
    hooks.answers["/hook"] = [answer]
    await world.happens(world.enrolled())
    async with world.calling():
        await until(lambda: world.rows("SELECT FROM webhook_deliveries WHERE state = $1", state), 30)
    [row] = await world.rows("SELECT reason, attempts FROM webhook_deliveries")
    assert (row["reason"], row["attempts"]) == (reason, 1)


async def test_a_webhook_is_its_partners_and_the_operators(world: Calling, hooks: Hooks) -> None:
    made = await world.webhook()
    at = f"{BASE}/torgar/webhooks"
    asked = {"url": hooks.url(), "events": ["*"]}
    span = {"from": "2020-01-01T00:00:00Z"}
    routes: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("POST", "", asked),
        ("GET", f"/{made['id']}", None),
        ("GET", f"/{made['id']}/deliveries", None),
        ("POST", f"/{made['id']}/rotate", None),
        ("POST", f"/{made['id']}/test", None),
        ("POST", f"/{made['id']}/replay", span),
        ("DELETE", f"/{made['id']}", None),
    ]
    described = {
        f"{method.upper()} {path}"
        for path, methods in world.app.openapi()["paths"].items()
        if "/webhooks" in path
        for method in methods
    }
    assert len(described) == len(routes)
    for method, path, body in routes:
        for signed, status in (
            ({}, 401),
            (world.signed("ytre-helgeland"), 403),
            (world.signed(sub="kari", kursnett_partner=None), 403),
        ):
            answer = await world.asking.request(method, at + path, json=body, headers=signed)
            assert answer.status_code == status, (method, path)
        if path:  # one's own address does not make another's webhook one's own
            elsewhere = at.replace("torgar", "ytre-helgeland") + path
            answer = await world.asking.request(method, elsewhere, json=body, headers=world.signed("ytre-helgeland"))
            assert answer.status_code == 404, (method, path)
    operator = world.signed(sub="olga", kursnett_partner=None, kursnett_role="operator")
    for method, path, body in routes:
        answer = await world.asking.request(method, at + path, json=body, headers=operator)
        assert answer.status_code in (200, 201, 202, 204), (method, path, answer.text)
    assert (await world.ask("GET", f"/{made['id']}")).status_code == 404
    assert len((await world.ask("GET")).json()["items"]) == 1


async def test_a_webhook_that_is_deleted_gets_nothing_more_and_its_log_goes_too(world: Calling, hooks: Hooks) -> None:
    made, other = await world.webhook(), await world.webhook("/other")
    await world.happens(world.enrolled())
    assert (await world.ask("DELETE", f"/{made['id']}")).status_code == 204
    assert (await world.ask("DELETE", f"/{made['id']}")).status_code == 404
    await world.happens(world.enrolled())
    async with world.calling():

        async def two() -> bool:
            return len(hooks.at("/other")) == 2

        await until(two)
        forgetting = asyncio.create_task(deliveries.forget(world.here))
        await until(lambda: world.rows("SELECT FROM webhooks HAVING count(*) = 1"))
    await forgetting
    assert not hooks.at("/hook")
    assert len(await world.log(other["id"])) == 2


async def test_the_log_comes_in_pages_newest_first_and_is_kept_for_two_weeks(world: Calling) -> None:
    made = await world.webhook()
    await world.happens(*(world.created(version) for version in range(1, 6)))
    path, seen = f"{BASE}/torgar/webhooks/{made['id']}/deliveries?limit=2", []
    while path:
        answer = await world.asking.get(path, headers=world.signed())
        seen += [one["id"] for one in answer.json()["items"]]
        path = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert len(seen) == 5
    assert seen == sorted(seen, reverse=True)
    await world.rows(
        """
        UPDATE webhook_deliveries SET
            created_at = created_at - interval '15 days', owed_at = owed_at - interval '15 days'
        WHERE id <= $1
        """,
        seen[3],
    )
    forgetting = asyncio.create_task(deliveries.forget(world.here))
    await until(lambda: world.rows("SELECT FROM webhook_deliveries HAVING count(*) = 3"))
    world.here.stopping.set()
    await forgetting
    assert [one["id"] for one in await world.log(made["id"])] == seen[:3]


async def test_what_is_asked_wrongly_is_named(world: Calling, hooks: Hooks) -> None:
    for body, field in (
        ({"url": hooks.url()}, "events"),
        ({"url": hooks.url(), "events": []}, "events"),
        ({"url": hooks.url(), "events": ["ContactGiven"]}, "events"),
        ({"url": hooks.url(), "events": ["no.kursnett.enrolment.ContactGiven.v1"]}, "events"),
        ({"url": hooks.url(), "events": ["*"], "secret": "mine"}, "secret"),
        ({"url": "http://169.254.169.254/", "events": ["*"]}, "url"),
    ):
        answer = await world.ask("POST", json=body)
        assert answer.status_code == 422
        assert [one["field"] for one in answer.json()["errors"]] == [field]
    for _ in range(10):
        await world.webhook()
    answer = await world.ask("POST", json={"url": hooks.url(), "events": ["*"]})
    assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (409, "A partner may have 10 webhooks")


async def test_who_asks_for_many_webhooks_at_once_gets_no_more_than_one_may_have(world: Calling, hooks: Hooks) -> None:
    """Red control: without the lock none sees what another is adding, and each may be the last that there is room for.
    Another partner waits for nobody."""
    for number in range(webhooks.MOST_WEBHOOKS - 1):
        await world.webhook(f"/{number}")
    asked: Any = {"url": hooks.url(), "events": ["*"]}
    conn = await connect(world.settings, "operator")
    try:
        async with conn.transaction():
            assert await hook_store.add(conn, "torgar", hooks.url("/last"), ["*"], "sealed", webhooks.MOST_WEBHOOKS)
            adding = asyncio.create_task(world.ask("POST", json=asked))

            async def waits_or_is_done() -> bool:
                waiting = await world.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                return bool(waiting) or adding.done()

            await until(waits_or_is_done)
            other = await world.asking.post(
                f"{BASE}/ytre-helgeland/webhooks", json=asked, headers=world.signed("ytre-helgeland")
            )
            assert other.status_code == 201
        assert (await adding).status_code == 409
    finally:
        await conn.close()
    assert len((await world.ask("GET")).json()["items"]) == webhooks.MOST_WEBHOOKS


async def test_a_name_that_no_name_server_says_anything_of_is_refused_in_time(
    world: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red control: without a limit the partner waits as long as the system does, which may be minutes."""

    async def never(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    monkeypatch.setattr(webhooks, "guard_of", lambda settings: Guard(resolve=never))
    monkeypatch.setattr(webhooks, "NAME_S", 0.2, raising=False)
    async with asyncio.timeout(5):
        answer = await world.ask("POST", json={"url": "https://hooks.partner.example/", "events": ["*"]})
    assert answer.status_code == 422
    assert "name servers do not answer" in answer.json()["errors"][0]["detail"]


async def test_what_is_said_over_kafka_is_told_once_although_it_is_said_again(
    servers: Servers, world: Calling, hooks: Hooks
) -> None:
    partner = f"p-{uuid.uuid4().hex[:12]}"
    made = await world.asking.post(
        f"{BASE}/{partner}/webhooks", json={"url": hooks.url(), "events": ["*"]}, headers=world.signed(partner)
    )
    await topics.declare(servers.kafka, [one for one in TOPICS if one.name in TOLD_TO_PARTNERS])
    course = uuid.uuid4()
    said = [world.created(version, course, partner) for version in range(1, 21)]
    async with relaying(world.here), listening(world.here, partners.consumer()), world.calling():
        await world.here.database.run(lambda conn: outbox.add_all(conn, said))
        await world.all_delivered(20)
        await world.rows("UPDATE outbox SET published_at = NULL")  # as `republish` does

        async def said_again() -> bool:
            return not await world.rows("SELECT FROM outbox WHERE published_at IS NULL")

        await until(said_again)
        last = world.created(21, course, partner)
        await world.here.database.run(lambda conn: outbox.add(conn, last))
        await world.all_delivered(21)
    assert [one.event["data"]["version"] for one in hooks.came] == list(range(1, 22))
    assert all(one.verified(made.json()["secret"]) for one in hooks.came)
    heard = await world.rows("SELECT FROM inbox WHERE consumer = 'notifier.webhooks'")
    assert len(heard) >= 21
