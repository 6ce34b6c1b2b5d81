"""The corpus of what partners may send, through every way in: refused with the same words everywhere, or kept."""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from contracts.topics import MAX_EVENT_BYTES
from kit import parking
from services.catalogue import events
from services.catalogue import operating as catalogue
from tests.delivery import Servers, listening, until
from tests.integration import corpus
from tests.integration.corpus import COURSE, COURSE_CELLS, COURSES, DATES, OFFERINGS, RULES, RUN_CELLS, Bad, event
from tests.integration.test_catalogue import BASE, World, world

pytestmark = pytest.mark.anyio

ANY_NUMBER = 1000  # of refused records: what is shown here is not the quarantine
Said = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


async def send(here: World, said: list[Said]) -> None:
    """Write (key, value, headers) to one partition of the partner's topic, in this order."""
    async with AIOKafkaProducer(
        bootstrap_servers=here.settings.kafka_bootstrap, max_request_size=2 * 1024 * 1024
    ) as producer:
        for key, value, headers in said:
            topic = f"partners.{here.partner}.courses"
            await producer.send_and_wait(topic, value, key=key, headers=headers, partition=0)


async def outcomes(here: World, count: int) -> list[dict[str, Any]]:
    """What became of the partner's first records, in the order of the topic, when so many have been looked at."""

    async def all_told() -> Any:
        async with here.here.database.reading() as conn:
            kept = await conn.fetch("""SELECT reason, detail, "offset" AS at FROM parked ORDER BY "offset" """)
            taken = await conn.fetchval("SELECT count(*) FROM intake WHERE way = 'kafka'")
        refused = {row["at"]: dict(row) for row in kept}
        return [refused.get(at, {"reason": None}) for at in range(count)] if taken + len(kept) == count else None

    found: list[dict[str, Any]] = await until(all_told, within_s=60)
    return found


def is_told(row: Mapping[str, Any], reason: str | None, field: str, says: str) -> bool:
    """Whether a record's outcome is this reason, at this field, in these words; none: it was taken."""
    if reason is None or row["reason"] != reason:
        return bool(row["reason"] == reason)
    place = field if field.isascii() else field.partition(".")[0]  # Kafka never shows a name that is no plain word
    return bool(row["detail"].startswith(place) and says in row["detail"])


@pytest.mark.parametrize(
    ("kind", "path", "good", "bad"),
    [
        ("CoursePublished", "SV-1", COURSE, COURSES),
        ("OfferingPublished", "SV-1/offerings/v27", DATES, OFFERINGS | RULES),
    ],
    ids=["courses", "offerings"],
)
async def test_what_will_not_do_is_refused_alike_at_every_door(
    servers: Servers, kind: str, path: str, good: dict[str, Any], bad: dict[str, Bad]
) -> None:
    async with world(servers, quarantine_refused=ANY_NUMBER) as here, listening(here.here, events.partners()):
        address = {"code": "SV-1"} if kind == "CoursePublished" else {"course_code": "SV-1", "key": "v27"}
        said = [event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE})]
        said += [event(here.partner, kind, {**address, **good, **one.said}) for one in bad.values()]
        said += [event(here.partner, kind, {**address, **good})]
        await send(here, [(b"SV-1", json.dumps(one).encode(), []) for one in said])
        first, *told, last = await outcomes(here, len(said))
        assert first["reason"] is last["reason"] is None, "before and after it all, what is good is taken"
        wrong: dict[str, Any] = {
            name: row
            for (name, one), row in zip(bad.items(), told, strict=True)
            if not is_told(row, *one[5:6], *one[1:3])
        }
        assert not wrong, "over Kafka"

        before = await here.said()
        answers = {name: await here.put(path, good | one.said) for name, one in bad.items()}
        told_at = {name: (answer.status_code, *errors_of(answer, "field")) for name, answer in answers.items()}
        wrong = {
            name: told_at[name]
            for name, one in bad.items()
            if told_at[name][:2] != (422, one.field) or one.says not in told_at[name][2]
        }
        assert not wrong, "over HTTP"
        over_kafka = {name: row["detail"] for name, row in zip(bad, told, strict=True) if row["reason"] is not None}
        wrong = {
            name: (said, *told_at[name])
            for name, said in over_kafka.items()
            if bad[name].field.isascii() and said != f"{told_at[name][1]}: {told_at[name][2]}"
        }
        assert not wrong, "in the same words"

        cells = COURSE_CELLS | (RUN_CELLS if good is DATES else {})
        files = {name: await upload(here, cells | one.cells) for name, one in bad.items() if one.cells is not None}
        told_at = {name: (answer.status_code, *errors_of(answer, "column")) for name, answer in files.items()}
        wrong = {
            name: told
            for name, told in told_at.items()
            if told[:2] != (422, bad[name].column or bad[name].field) or bad[name].says not in told[2]
        }
        assert not wrong, "in a file"
        assert await here.said() == before, "nothing of it was done"


def errors_of(answer: Any, place: str) -> tuple[str, ...]:
    """(place, words) of the one thing that an answer tells; more places when it tells more."""
    found = answer.json().get("errors", [])
    return tuple(part for one in found for part in (one[place], one["detail"]))


async def upload(here: World, cells: dict[str, str], **headers: str) -> Any:
    content = f"{';'.join(cells)}\r\n{';'.join(cells.values())}\r\n"
    headers = {"authorization": f"Bearer {here.key}", "content-type": "text/csv"} | headers
    return await here.asking.post(
        f"{BASE}/partners/{here.partner}/import", content=content.encode("utf-8", "surrogatepass"), headers=headers
    )


async def test_what_cannot_be_read_is_refused_with_its_reason(servers: Servers) -> None:
    async with world(servers, quarantine_refused=ANY_NUMBER) as here, listening(here.here, events.partners()):
        whole = json.dumps(event(here.partner, "CoursePublished", "HERE")).encode()
        said: list[Said] = [(b"SV-1", whole.replace(b'"HERE"', one.body), []) for one in corpus.BODIES.values()]
        said += [
            (b"SV-1", value, []) for value in (None, b"", b"\xff\xfe", b"{", corpus.ONE_BYTE_OVER, corpus.MEGABYTE)
        ]
        reasons = [one.reason for one in corpus.BODIES.values()]
        reasons += ["empty", "empty", "not_utf8", "not_json", "too_large", "too_large"]
        room = MAX_EVENT_BYTES - 1
        said.append(
            (
                b"SV-1",
                json.dumps(event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE})).encode().ljust(room),
                [],
            )
        )
        await send(here, said)
        *told, last = await outcomes(here, len(said))
        assert [row["reason"] for row in told] == reasons
        assert last["reason"] is None, "one byte below the limit is taken"
        assert all("Sveis" not in row["detail"] for row in told), "a reason never shows what was sent"


async def test_what_stands_around_a_course_on_kafka_is_not_believed(servers: Servers) -> None:
    async with world(servers, quarantine_refused=ANY_NUMBER) as here, listening(here.here, events.partners()):
        said: list[Said] = []
        for one in corpus.ENVELOPES.values():
            whole = event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}) | one.said
            said.append((one.key, json.dumps(whole).encode(), list(one.headers)))
        again = event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE})
        other = again | {"data": {"code": "SV-1", **COURSE, "price_ore": 7}}
        said += [(b"SV-1", json.dumps(value).encode(), []) for value in (again, again, other)]
        await send(here, said)
        taken = [one.reason for one in corpus.ENVELOPES.values()].count(None)

        async def all_told() -> Any:
            async with here.here.database.reading() as conn:
                kept = await conn.fetch("""SELECT reason, detail, "offset" AS at FROM parked ORDER BY "offset" """)
            refused = {row["at"]: dict(row) for row in kept}
            return refused if len(refused) == len(said) - taken - 2 else None  # of a repeat nothing is noted

        refused = await until(all_told, within_s=60)
        rows = [refused.get(at, {"reason": None}) for at in range(len(said))]
        told = dict(zip(corpus.ENVELOPES, rows, strict=False))
        wrong = {name: told[name] for name, one in corpus.ENVELOPES.items() if not is_told(told[name], *one[1:3], "")}
        assert not wrong
        assert [row["reason"] for row in rows[-3:]] == [None, None, "id_reused"]
        async with here.here.database.reading() as conn:
            assert {row["partner"] for row in await conn.fetch("SELECT partner FROM courses")} == {here.partner}
        assert [one for one in await here.said() if one[0] != "PartnerJoined"] == [("CourseCreated", 1)]


async def test_each_copy_of_what_is_refused_is_told_of_though_they_come_together(servers: Servers) -> None:
    async with world(servers) as here:
        wrong = json.dumps(event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE, "subjects": ["magi"]}))
        good = json.dumps(event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}))
        await send(here, [(b"SV-1", value.encode(), []) for value in (wrong, wrong, good)])  # in one batch
        async with listening(here.here, events.partners()):
            told = [row["reason"] for row in await outcomes(here, 3)]
        assert told == ["unknown_subject", "unknown_subject", None]


async def test_what_is_mended_after_it_was_given_up_is_no_repeat(servers: Servers) -> None:
    """Red control: noted without a digest, it is passed over in silence, and its partner waits for a course."""
    async with world(servers) as here, listening(here.here, events.partners()):
        wrong = event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE, "subjects": ["magi"]})
        mended = wrong | {"data": {"code": "SV-1", **COURSE}}
        await send(here, [(b"SV-1", json.dumps(wrong).encode(), [])])
        await outcomes(here, 1)
        assert await here.here.database.run(lambda conn: parking.discard(conn, [1], "test", "given up")) == [1]
        new = event(here.partner, "CoursePublished", {"code": "SV-2", **COURSE})
        await send(here, [(b"SV-1", json.dumps(one).encode(), []) for one in (mended, new)])
        _, told, last = await outcomes(here, 3)
        assert (told["reason"], last["reason"]) == ("id_reused", None)


async def test_what_is_strange_and_right_is_kept_to_the_letter_at_every_door(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        titles = list(corpus.TITLES.values())
        said = [
            event(here.partner, "CoursePublished", {"code": f"K-{n}", "title": {"nb": title}})
            for n, title in enumerate(titles)
        ]
        await send(here, [(b"K", json.dumps(one).encode(), []) for one in said])
        for n, title in enumerate(titles):
            assert (await here.put(f"H-{n}", {"title": {"nb": title}})).status_code == 201
            quoted = '"' + title.replace('"', '""') + '"'
            assert (await upload(here, {"code": f"F-{n}", "title_nb": quoted})).status_code == 200, title
        assert {row["reason"] for row in await outcomes(here, len(said))} == {None}
        async with here.here.database.reading() as conn:
            rows = await conn.fetch("SELECT code, content FROM courses")
        kept = {row["code"]: json.loads(row["content"])["title"]["nb"] for row in rows}
        for n, title in enumerate(titles):
            for door in "KHF":
                assert kept[f"{door}-{n}"] == unicodedata.normalize("NFC", title)
        for text in corpus.FORMULAS:
            assert (await here.put("H-0", {"title": {"nb": f"{text} x"}})).status_code == 200
            answer = await upload(here, {"code": "F-0", "title_nb": f"{text} x"})
            [error] = answer.json()["errors"]
            assert (error["column"], error["detail"]) == ("title_nb", "must not begin with = + - or @")


async def test_one_partner_cannot_speak_of_anothers_course_at_any_door_and_the_same_code_is_two_courses(
    servers: Servers,
) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        mine = World(here.here, here.settings, here.asking, here.issuer, here.partner, here.key)
        other = f"{here.partner}-b"
        made = await catalogue.add(here.settings, other, "En annen", None, ["online"])
        theirs = World(here.here, here.settings, here.asking, here.issuer, other, made["key"])
        ids = {(await one.put("SV-1", COURSE)).json()["course_id"] for one in (mine, theirs)}
        assert len(ids) == 2, "two partners' same code is two courses"
        assert (await upload(theirs, COURSE_CELLS)).json()["unchanged"] == 1

        before = await here.said()
        theirs.key, key = mine.key, theirs.key
        assert (await theirs.put("SV-1", COURSE | {"price_ore": 7})).status_code == 403
        assert (await upload(theirs, COURSE_CELLS | {"price_ore": "7"})).status_code == 403
        theirs.key = key
        data = {"code": "SV-1", **COURSE, "price_ore": 7}
        await send(mine, [(b"SV-1", json.dumps(event(theirs.partner, "CoursePublished", data)).encode(), [])])
        retracted = event(mine.partner, "CourseRetracted", {"code": "SV-1", "partner": other})
        await send(mine, [(b"SV-1", json.dumps(retracted).encode(), [])])
        first, second = await outcomes(mine, 2)
        assert (first["reason"], second["reason"]) == ("foreign_source", None)
        async with here.here.database.reading() as conn:
            rows = await conn.fetch("SELECT partner, withdrawn FROM courses")
        assert {row["partner"]: row["withdrawn"] for row in rows} == {mine.partner: True, other: False}
        assert [kind for kind, _ in (await here.said())[len(before) :]] == ["CourseWithdrawn"], "its own was"


async def test_a_run_of_a_course_that_is_not_there_or_gone_is_refused_alike(servers: Servers) -> None:
    async with world(servers) as here, listening(here.here, events.partners()):
        run = {"course_code": "SV-9", "key": "v27", **DATES}
        gone = {"course_code": "SV-1", "key": "v27", "reason": ""}
        said = [
            event(here.partner, "OfferingPublished", run),  # of a course that there is not
            event(here.partner, "CoursePublished", {"code": "SV-1", **COURSE}),  # a course with no run is a course
            event(here.partner, "OfferingRetracted", gone),  # of a run that there is not
            event(here.partner, "OfferingPublished", run | {"course_code": "SV-1"}),
            event(here.partner, "OfferingRetracted", gone),
            event(here.partner, "OfferingPublished", run | {"course_code": "SV-1"}),  # was cancelled
            event(here.partner, "CourseRetracted", {"code": "SV-9"}),
            event(here.partner, "CourseRetracted", {"code": "SV-1"}),
            event(
                here.partner, "OfferingPublished", run | {"course_code": "SV-1", "key": "h27"}
            ),  # the course was withdrawn
        ]
        await send(here, [(b"SV-1", json.dumps(one).encode(), []) for one in said])
        told = [row["reason"] for row in await outcomes(here, len(said))]
        course, run_gone, withdrawn = "unknown_course", "offering_cancelled", "course_withdrawn"
        assert told == [course, None, "unknown_offering", None, None, run_gone, course, None, withdrawn]
        assert (await here.put("SV-9/offerings/v27", DATES)).status_code == 404
        assert (await here.cancel("SV-1/offerings/v30")).status_code == 404
        assert (await here.put("SV-1/offerings/h27", DATES)).status_code == 409
        assert (await here.put("SV-2", COURSE)).status_code == 201
        assert (await here.put("SV-2/offerings/v27", DATES)).status_code == 201
        await here.cancel("SV-2/offerings/v27")
        assert (await here.put("SV-2/offerings/v27", DATES)).status_code == 409
        answer = await upload(here, COURSE_CELLS | {"code": "SV-2"} | RUN_CELLS)
        [error] = answer.json()["errors"]
        assert (error["row"], error["column"]) == (2, "offering")
        assert "was cancelled" in error["detail"]
