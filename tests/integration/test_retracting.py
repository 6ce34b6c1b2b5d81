"""A retraction with people enrolled asks for a decision, every way in, and costs nobody a seat before it is made."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.enrolment import (
    EnrolmentDenied,
    EnrolmentEvent,
    EnrolmentFinished,
    EnrolmentPending,
    EnrolmentRestated,
    LearnerEnrolled,
    LearnerMoved,
    LearnerQueued,
    LearnerWithdrew,
    MinimumMissed,
    SeatOfferDeclined,
    SeatOffered,
    SeatOfferLapsed,
)
from contracts.topics import owned_by
from kit import topics
from services.catalogue import events, joining
from services.catalogue import operating as catalogue
from services.catalogue.store import retractions
from tests.delivery import Servers, listening, until
from tests.integration.corpus import COURSE, COURSE_CELLS, DATES, RUN_CELLS
from tests.integration.test_catalogue import BASE, World, world
from tests.integration.test_catalogue_import import send
from tests.integration.test_catalogue_minimum import Enrolment
from tests.integration.test_catalogue_pages import CSRF, PUBLIC, look, of, words
from tests.integration.test_catalogue_partners import change
from tests.integration.test_catalogue_rules import told
from tests.integration.test_catalogue_sync import environment
from tests.integration.test_corpus import upload
from tests.typed import typed

pytestmark = pytest.mark.anyio

RUN = "SV-1/offerings/v27"
OFFER = {"offer_id": uuid.UUID(int=1), "place": "online"}
# What enrolment says of somebody who is there, and of somebody who is there no more.
THERE: list[tuple[type[EnrolmentEvent], dict[str, Any]]] = [
    (EnrolmentPending, {"places": ["online"]}),
    (LearnerEnrolled, {"place": "online"}),
    (LearnerQueued, {"places": ["online"], "place_in_line": 1}),
    (LearnerMoved, {"from_place": "mosjoen", "place": "online"}),
    (SeatOffered, {**OFFER, "expires_at": datetime(2049, 1, 1, tzinfo=UTC), "on_lapse": "leave", "sealed": "x"}),
    (SeatOfferDeclined, {**OFFER, "in_line": True}),
    (SeatOfferLapsed, {**OFFER, "in_line": True}),
    (EnrolmentRestated, {"state": "queued"}),
]
GONE: list[tuple[type[EnrolmentEvent], dict[str, Any]]] = [
    (EnrolmentDenied, {"reason": ""}),
    (EnrolmentFinished, {"place": "online"}),
    (LearnerWithdrew, {}),
    (SeatOfferDeclined, {**OFFER, "in_line": False}),
    (SeatOfferLapsed, {**OFFER, "in_line": False}),
    (EnrolmentRestated, {"state": "lost"}),
]
ENROLLED = THERE[1:2]


class People:
    """Those who are enrolled in one catalogue's runs, as enrolment speaks of them."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.enrolment = Enrolment(here, "catalogue.learners")

    async def publish(self, key: str = "v27") -> dict[str, Any]:
        await self.here.put("SV-1", COURSE)
        made = await self.here.put(f"SV-1/offerings/{key}", DATES)
        run: dict[str, Any] = (await self.here.asking.get(made.headers["location"])).json()
        return run

    async def are(self, run: dict[str, Any], *said: Sequence[tuple[type[EnrolmentEvent], dict[str, Any]]]) -> None:
        """One person for each of `said`, of whom enrolment says all that in turn, and the catalogue hears it."""
        about: dict[str, Any] = {name: run[name] for name in ("offering_id", "course_id", "partner")}
        spoken = []
        for each in said:
            ids: dict[str, Any] = {"enrolment_id": uuid.uuid4(), "learner_id": uuid.uuid4()}
            spoken += [kind(**about, **ids, **more) for kind, more in each]
        await self.enrolment.say(spoken)

    async def retract(self, what: str = "OfferingRetracted", count: int = 1, **more: Any) -> None:
        """Say it over Kafka, and wait until the intake tells of as many things over Kafka."""
        data = {"code": "SV-1"} if what == "CourseRetracted" else {"course_code": "SV-1", "key": "v27"}
        await self.send(what, data | more, count)

    async def send(self, what: str, data: dict[str, Any], count: int) -> None:
        await self.here.send((what, data))

        async def so_many() -> bool:
            return [one["way"] for one in await self.here.intake()].count("kafka") == count

        await until(so_many, within_s=40)

    async def status(self) -> Any:
        address = f"{BASE}/partners/{self.here.partner}/status"
        return (await self.here.asking.get(address, headers={"authorization": f"Bearer {self.here.key}"})).json()

    async def waiting(self) -> list[tuple[str, str | None, int, str]]:
        found = (await self.status())["retractions"]
        return [(one["code"], one["key"], one["people"], one["reason"]) for one in found]

    async def post(self, path: str, body: Any = None, token: str = "", **headers: str) -> Any:
        known = {"authorization": f"Bearer {token or self.here.key}"}
        known |= {name.replace("_", "-"): it for name, it in headers.items()}
        return await self.here.asking.post(f"{self.here.courses}/{path}", json=body, headers=known)

    async def cancelled(self) -> list[str]:
        return [kind for kind, _ in await self.here.said() if kind in ("OfferingCancelled", "CourseWithdrawn")]


@asynccontextmanager
async def enrolled(servers: Servers, **changed: Any) -> AsyncIterator[People]:
    """A catalogue that listens to its partners and to enrolment."""
    await topics.declare(servers.kafka, owned_by("enrolment"))
    async with (
        world(servers, **changed) as here,
        listening(here.here, events.partners()),
        listening(here.here, events.learners()),
    ):
        yield People(here)


def nobody_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the guard out: what is known of people is not asked for."""

    async def none(*_: Any) -> int:
        return 0

    monkeypatch.setattr(retractions, "people", none)


async def test_over_kafka_a_run_with_people_is_not_cancelled_before_it_is_confirmed(servers: Servers) -> None:
    async with enrolled(servers) as people:
        run = await people.publish()
        await people.are(run, *[[one] for one in THERE], *[[THERE[1], one] for one in GONE])
        assert [one["people"] for one in (await people.status())["offerings"]] == [len(THERE)]
        for count in (1, 2):  # twice: one decision waits
            await people.retract(count=count, reason="for få lærere")
        assert await people.waiting() == [("SV-1", "v27", len(THERE), "for få lærere")]
        assert await people.cancelled() == []
        newest, first = [one for one in await people.here.intake() if one["way"] == "kafka"]
        assert (newest["outcome"], newest["reason"], newest["field"]) == ("taken", "decision_wanted", "confirmed")
        assert "confirmed true" in newest["detail"]
        assert (first["outcome"], first["reason"], first["field"]) == ("taken", None, None)

        await people.retract(count=3, confirmed=True)
        assert [one["reason"] for one in await told(people.here, "OfferingCancelled")] == ["for få lærere"]
        assert await people.waiting() == []
        assert {one["reason"] for one in await people.here.intake()} == {None}, "and the intake says that it is over"


FILE = """code;title_nb;offering;starts_at;ends_at;arena;capacity;retracted;confirmed
SV-1;Sveising;v27;;;;;for få lærere;{}
SV-2;Lodding;;;;;;;
"""


async def test_in_a_file_it_is_asked_by_its_row_and_nothing_of_the_file_is_done(servers: Servers) -> None:
    async with enrolled(servers) as people:
        await people.are(await people.publish(), ENROLLED, ENROLLED)
        said = len(await people.here.said())
        for query in ("", "?dry_run=true"):
            answer = await send(people.here, FILE.format(""), query)
            [error] = answer.json()["errors"]
            assert (answer.status_code, error["row"], error["column"]) == (422, 2, "confirmed")
            assert error["detail"].startswith("2 people have a seat")
        assert (await people.waiting(), len(await people.here.said())) == ([], said), "and SV-2 was not published"

        tried = (await send(people.here, FILE.format("ja"), "?dry_run=true")).json()
        assert (tried["created"], tried["retracted"], await people.cancelled()) == (1, 1, [])
        done = (await send(people.here, FILE.format("ja"))).json()
        assert [(one["code"], one["key"], one["outcome"]) for one in done["items"]] == [
            ("SV-1", None, "changed"),
            ("SV-1", "v27", "retracted"),
            ("SV-2", None, "created"),
        ]
        assert [one["reason"] for one in await told(people.here, "OfferingCancelled")] == ["for få lærere"]
        whats = {(one["way"], one["what"]) for one in await people.here.intake()}
        assert ("csv", "OfferingRetracted") in whats
        again = (await send(people.here, FILE.format("ja"))).json()
        assert (again["unchanged"], again["retracted"]) == (3, 0), "the row may stay in the file"
        assert await people.cancelled() == ["OfferingCancelled"]


async def test_without_the_question_a_file_costs_people_their_seats(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_is_counted(monkeypatch)
    async with enrolled(servers) as people:
        await people.are(await people.publish(), ENROLLED)
        assert (await send(people.here, FILE.format(""))).json()["retracted"] == 1


async def test_a_file_retracts_a_course_with_all_its_runs_and_only_what_there_is(servers: Servers) -> None:
    header = FILE.partition("\n")[0]
    async with enrolled(servers) as people:
        await people.publish()
        for rows, column in (
            ("SV-9;;;;;;;slutt;", "code"),
            ("SV-1;;v99;;;;;slutt;", "offering"),
        ):
            [error] = (await send(people.here, f"{header}\n{rows}\n")).json()["errors"]
            assert (error["row"], error["column"]) == (2, column)
        assert await people.cancelled() == []
        rows = "SV-1;Sveising;;;;;;slutt;\nSV-1;;v27;01.03.2049;05.03.2049;online;12;flom;\n"
        for outcomes in (["retracted", "retracted"], ["unchanged", "unchanged"]):
            done = (await send(people.here, f"{header}\n{rows}")).json()
            assert [one["outcome"] for one in done["items"]] == outcomes
        assert await people.cancelled() == ["OfferingCancelled", "CourseWithdrawn"]
        assert [one["reason"] for one in await told(people.here, "OfferingCancelled")] == ["flom"]


async def test_the_reason_of_a_whole_course_in_a_file_is_told_to_those_of_its_runs(servers: Servers) -> None:
    async with enrolled(servers) as people:
        for key in ("v27", "h27"):
            await people.publish(key)
        file = "code;title_nb;retracted\nSV-1;Sveising;Læreren har sluttet\n"
        assert (await send(people.here, file)).json()["retracted"] == 1
        assert [one["reason"] for one in await told(people.here, "OfferingCancelled")] == ["Læreren har sluttet"] * 2


async def test_what_is_not_true_or_false_confirms_nothing(servers: Servers) -> None:
    async with enrolled(servers) as people:
        await people.are(await people.publish(), ENROLLED)
        await people.retract(confirmed="false")
        [one] = [one for one in await people.here.intake() if one["way"] == "kafka"]
        assert (one["outcome"], one["reason"], one["field"]) == ("refused", "invalid", "confirmed")
        assert (await people.post(f"{RUN}/cancel", {"confirmed": "true"})).status_code == 422
        assert await people.cancelled() == []


@pytest.mark.parametrize("over", GONE, ids=lambda over: over[0].__name__)
async def test_where_nobody_is_left_a_retraction_works_at_once(
    servers: Servers, over: tuple[type[EnrolmentEvent], dict[str, Any]]
) -> None:
    async with enrolled(servers) as people:
        await people.are(await people.publish(), [THERE[1], over])
        await people.retract()
        assert await people.cancelled() == ["OfferingCancelled"]
        assert await people.waiting() == []


async def test_over_http_it_is_asked_in_the_answer_and_nothing_is_done(servers: Servers) -> None:
    async with enrolled(servers) as people:
        await people.are(await people.publish(), ENROLLED, ENROLLED)
        before = len(await people.here.intake())
        answer = await people.post(f"{RUN}/cancel", {"reason": "for få lærere"}, idempotency_key="one")
        told_so = answer.json()
        assert (answer.status_code, told_so["type"].rpartition("/")[2]) == (409, "people-enrolled")
        assert (told_so["people"], told_so["errors"][0]["field"]) == (2, "confirmed")
        assert "2 people" in told_so["detail"]
        assert (await people.here.asking.get("/problems/people-enrolled")).status_code == 200
        assert (await people.waiting(), await people.cancelled()) == ([], [])
        assert len(await people.here.intake()) == before

        body = {"reason": "for få lærere", "confirmed": True}
        for _ in range(2):
            answer = await people.post(f"{RUN}/cancel", body, idempotency_key="one")
            assert (answer.status_code, answer.json()["version"]) == (200, 2)
        assert (await people.post(f"{RUN}/cancel")).json()["version"] == 2, "what is cancelled asks nothing"
        assert await people.cancelled() == ["OfferingCancelled"]


async def test_an_operator_is_not_asked(servers: Servers) -> None:
    async with enrolled(servers) as people:
        await people.are(await people.publish(), ENROLLED)
        operator = people.here.issuer.token(kursnett_role="operator")
        assert (await people.post(f"{RUN}/cancel", token=operator)).status_code == 200
        assert await people.cancelled() == ["OfferingCancelled"]


async def test_without_the_count_of_people_they_lose_their_seats_at_once(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The red control of both ways in."""
    async with enrolled(servers) as people:
        await people.are(await people.publish(), ENROLLED)
        await people.are(await people.publish("h27"), ENROLLED)
        nobody_is_counted(monkeypatch)
        await people.retract()
        assert (await people.post("SV-1/offerings/h27/cancel")).status_code == 200
        assert await people.cancelled() == ["OfferingCancelled"] * 2


async def test_a_course_waits_whole_when_one_of_its_runs_has_people(servers: Servers) -> None:
    async with enrolled(servers) as people:
        await people.publish("empty")
        await people.are(await people.publish(), ENROLLED)
        await people.retract("CourseRetracted")
        await people.retract(count=2)
        assert await people.waiting() == [("SV-1", None, 1, ""), ("SV-1", "v27", 1, "")]
        asked = await people.post("SV-1/withdraw")
        assert (asked.status_code, asked.json()["people"]) == (409, 1)
        assert await people.cancelled() == []

        for _ in range(2):
            assert (await people.post("SV-1/withdraw", {"confirmed": True})).status_code == 200
        assert await people.cancelled() == ["OfferingCancelled", "OfferingCancelled", "CourseWithdrawn"]
        assert await people.waiting() == []
        assert (await people.post("SV-1/keep")).status_code == 409


async def test_the_reason_of_a_run_stands_when_its_whole_course_is_withdrawn(servers: Servers) -> None:
    async with enrolled(servers) as people:
        await people.are(await people.publish(), ENROLLED)
        await people.publish("other")
        await people.retract(reason="Kursholderen er syk")
        assert (await people.post("SV-1/withdraw", {"confirmed": True})).status_code == 200
        reasons = [one["reason"] for one in await told(people.here, "OfferingCancelled")]
        assert sorted(reasons) == ["Kursholderen er syk", "course_withdrawn"]


async def test_a_retraction_is_taken_back_and_nothing_has_changed(servers: Servers) -> None:
    async with enrolled(servers) as people:
        run = await people.publish()
        await people.are(run, ENROLLED)
        before = await people.here.said()
        await people.retract()
        await people.retract("CourseRetracted", count=2)
        for path, left in ((f"{RUN}/keep", 1), ("SV-1/keep", 0)):
            for _ in range(2):
                answer = await people.post(path)
                assert (answer.status_code, answer.json()["version"]) == (200, 1)
            assert len(await people.waiting()) == left
        assert (await people.post("SV-1/offerings/nope/keep")).status_code == 404
        assert await people.here.said() == before
        assert (await people.here.asking.get(f"{BASE}/offerings/{run['offering_id']}")).json() == run
        other = await catalogue.add(people.here.settings, f"{people.here.partner}-b", "En annen", None, ["online"])
        assert (await people.post(f"{RUN}/keep", token=other["key"])).status_code == 403


async def test_of_a_run_that_took_place_nothing_is_left_to_decide(servers: Servers) -> None:
    """Else its provider is asked for ever, and may at last cancel what people have been at."""
    async with enrolled(servers, pass_public_key=PUBLIC) as people:
        run = await people.publish()
        await people.are(run, ENROLLED)
        await people.retract(reason="flom")
        assert await people.waiting() == [("SV-1", "v27", 1, "flom")]
        async with people.here.here.database.reading() as conn:
            await conn.execute(
                """
                UPDATE offerings SET content = content || jsonb_build_object(
                    'starts_at', now() - interval '2 days', 'ends_at', now() - interval '1 day'
                )
                """
            )
        assert await people.waiting() == []
        assert "Avlys" not in words(await look(people.here, "/partner", **of(partner=people.here.partner)))
        assert [one["reason"] for one in await people.here.intake() if one["what"] == "OfferingRetracted"] == [None]
        late = await decide(people, "avlys", key="v27")
        assert late.headers["location"].endswith("avgjort=begynt"), "the page was open since before it took place"
        assert (await people.post("SV-1/withdraw")).status_code == 200, "nobody loses anything by it"
        assert await people.cancelled() == ["CourseWithdrawn"]
        async with people.here.here.database.reading() as conn:
            assert await conn.fetchval("SELECT count(*) FROM retractions") == 0, "the audit finds it for ever"


async def test_a_run_that_took_place_is_not_cancelled_and_who_can_be_answered_is_told_so(servers: Servers) -> None:
    """Else they believe that people were told."""
    async with enrolled(servers) as people:
        run = await people.publish()
        await people.are(run, ENROLLED)
        async with people.here.here.database.reading() as conn:
            await conn.execute(
                """
                UPDATE offerings SET content = content || jsonb_build_object(
                    'starts_at', now() - interval '2 days', 'ends_at', now() - interval '1 day'
                )
                """
            )
        said = await people.here.said()
        for body in ({}, {"confirmed": True}):
            answer = await people.post(f"{RUN}/cancel", body)
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (409, "key")
            assert "this offering is over" in answer.json()["detail"]
        file = await send(people.here, FILE.format("ja"))
        assert (file.status_code, [one["row"] for one in file.json()["errors"]]) == (422, [2])
        await people.retract(confirmed=True)
        [one] = [one for one in await people.here.intake() if one["way"] == "kafka"]
        assert (one["outcome"], one["reason"]) == ("taken", None), "a program tidies away what is over: no fault of it"
        assert await people.here.said() == said


async def test_who_publishes_it_again_takes_the_retraction_back_every_way_in(servers: Servers) -> None:
    async with enrolled(servers) as people:
        run = await people.publish()
        await people.are(run, ENROLLED)
        before = await people.here.said()
        cells = COURSE_CELLS | RUN_CELLS
        offering = {"course_code": "SV-1", "key": "v27", **DATES}

        async def over_kafka(count: int) -> None:
            await people.send("OfferingPublished", offering, count + 1)
            await people.send("CoursePublished", {"code": "SV-1", **COURSE}, count + 2)

        await people.retract()
        await people.retract("CourseRetracted", count=2)
        await over_kafka(2)
        assert await people.waiting() == []

        await people.retract(count=5)
        await people.retract("CourseRetracted", count=6)
        await people.here.put("SV-1", COURSE)
        assert [key for _, key, _, _ in await people.waiting()] == ["v27"]
        await people.here.put(RUN, DATES)
        assert await people.waiting() == []
        assert await people.here.said() == before, "and as it was said before, it makes no new version"

        # A file retracts nothing: what does not stand in it stays as it is. What stands in it, is there.
        await people.retract(count=7)
        assert (await upload(people.here, COURSE_CELLS)).status_code == 200
        assert len(await people.waiting()) == 1
        assert (await upload(people.here, cells | {"offering": "v27"})).status_code == 200
        assert await people.waiting() == []
        assert await people.cancelled() == []


async def test_the_rule_of_a_run_cancels_it_though_people_are_enrolled_and_nothing_waits_then(servers: Servers) -> None:
    async with enrolled(servers) as people:
        here = people.here
        await here.put("SV-1", COURSE)
        decided = {"minimum": 8, "decide_at": "2049-02-01T12:00:00Z", "on_too_few": "cancel"}
        made = await here.put(RUN, DATES | decided)
        run = (await here.asking.get(made.headers["location"])).json()
        await people.are(run, ENROLLED)
        await people.retract(reason="for få lærere")
        async with listening(here.here, events.enrolments()):
            await Enrolment(here).found(MinimumMissed, run, enrolled=1)
        assert [one["reason"] for one in await told(here, "OfferingCancelled")] == ["too_few"]
        async with here.here.database.reading() as conn:
            assert await conn.fetchval("SELECT count(*) FROM retractions") == 0


async def decide(people: People, act: str, key: str = "v27", query: str = "", **more: Any) -> Any:
    fields = {"csrf": CSRF, "kurs": "SV-1", "dato": key, "gjor": act} | more.pop("fields", {})
    sent = {"accept": "text/html"} | (more.pop("headers", None) or of(partner=people.here.partner))
    return await people.here.asking.post(f"/partner/avgjor{query}", data=fields, headers=sent)


async def test_a_provider_decides_on_its_page(servers: Servers) -> None:
    async with enrolled(servers, pass_public_key=PUBLIC) as people:
        here, mine = people.here, of(partner=people.here.partner)
        await people.are(await people.publish(), ENROLLED, ENROLLED)
        await people.retract(reason="for få <lærere>")
        page = await look(here, "/partner", **mine)
        assert "Dette må dere avgjøre" in words(page)
        assert "2 personer har plass, venter på svar eller står i kø" in words(page)
        assert "Begrunnelsen dere ga: for få <lærere>" in words(page)
        assert "Avlys, og gi 2 personer beskjed" in words(page)
        assert "Folk er påmeldt. Avgjør om det skal avlyses." in words(await look(here, "/partner/mottak", **mine))

        assert (await decide(people, "avlys", fields={"csrf": "of another"})).status_code == 403
        assert (await decide(people, "slett")).status_code == 422
        assert (await decide(people, "avlys", headers=of(partner="torgar"))).status_code == 404
        assert (await decide(people, "avlys", key="nope")).status_code == 404
        assert len(await people.waiting()) == 1

        kept = await decide(people, "behold")
        assert (kept.status_code, kept.headers["location"]) == (303, "/partner?avgjort=beholdt&antall=0")
        page = await look(here, kept.headers["location"], **mine)
        assert "Alt står som før, og ingen har fått beskjed." in words(page)
        assert "Dette må dere avgjøre" not in words(page)
        late = await decide(people, "avlys")  # in a window that was open since before
        assert late.headers["location"] == "/partner?avgjort=alt"
        assert "Dette var alt avgjort." in words(await look(here, late.headers["location"], **mine))
        assert await people.cancelled() == []

        await people.retract(count=2)
        done = [(await decide(people, "avlys")).headers["location"] for _ in range(2)]
        assert done == ["/partner?avgjort=avlyst&antall=2", "/partner?avgjort=alt"]
        assert "2 personer får beskjed." in words(await look(here, done[0], **mine))
        assert (await decide(people, "behold")).headers["location"] == "/partner?avgjort=alt"
        assert await people.cancelled() == ["OfferingCancelled"]


async def test_who_is_suspended_decides_nothing_and_an_operator_is_written_down(servers: Servers) -> None:
    async with enrolled(servers, pass_public_key=PUBLIC) as people:
        here = people.here
        await people.are(await people.publish(), ENROLLED)
        await people.retract("CourseRetracted")
        await change(here, lambda conn: joining.suspend(conn, here.partner, "avtalen er ute"))
        assert "Avlys, og gi" not in words(await look(here, "/partner", **of(partner=here.partner)))
        assert (await decide(people, "avlys", key="")).status_code == 403
        assert (await people.post("SV-1/keep")).status_code == 403
        assert len(await people.waiting()) == 1
        await change(here, lambda conn: joining.release(conn, here.partner))
        answer = await decide(people, "avlys", key="", query=f"?tilbyder={here.partner}", headers=of("operator"))
        assert answer.status_code == 303
        async with here.here.database.reading() as conn:
            [row] = await conn.fetch("SELECT act, about FROM operator_acts WHERE way = 'console'")
        assert (row["act"], row["about"]) == ("partners confirm", f"{here.partner}/SV-1")
        assert await people.cancelled() == ["OfferingCancelled", "CourseWithdrawn"]


async def test_operators_decide_at_the_command_line(servers: Servers) -> None:
    async with enrolled(servers) as people:
        here = people.here

        async def run(*arguments: str) -> tuple[int | None, str, str]:
            return await typed("catalogue", "partners", *arguments, environment=environment(here))

        await people.are(await people.publish(), ENROLLED)
        code, _, err = await run("confirm", here.partner, "SV-1", "v27")
        assert (code, "Nothing was cancelled: nothing of it waits" in err) == (1, True)
        await people.retract()
        await people.retract("CourseRetracted", count=2)
        rows = json.loads((await run("retractions", here.partner, "--json"))[1])
        assert [(one["code"], one["key"], one["people"]) for one in rows] == [("SV-1", "v27", 1), ("SV-1", None, 1)]
        assert "SV-1 (the whole course)" in (await run("retractions"))[1]
        assert (await run("retractions", "nobody", "--json"))[1].strip() == "[]"
        assert await run("keep", here.partner, "SV-1") == (0, "It stays as it was; nobody is told.\n", "")
        said = (0, "It is cancelled; 1 person is told.\n", "")
        assert await run("confirm", here.partner, "SV-1", "v27") == said
        async with here.here.database.reading() as conn:
            rows = await conn.fetch("SELECT act, about FROM operator_acts ORDER BY id")
        decided = [(row["act"], row["about"]) for row in rows if row["act"] in ("partners keep", "partners confirm")]
        assert decided == [
            ("partners keep", f"{here.partner}/SV-1"),
            ("partners confirm", f"{here.partner}/SV-1/v27"),
        ]
        assert await people.cancelled() == ["OfferingCancelled"]


async def test_a_catalogue_that_begins_to_count_reads_who_enrolled_before(servers: Servers) -> None:
    """As when it is upgraded: the consumer is new, and what enrolment said before lies on the topic."""
    await topics.declare(servers.kafka, owned_by("enrolment"))
    async with world(servers) as here:
        people = People(here)
        run = await people.publish()
        about: dict[str, Any] = {name: run[name] for name in ("offering_id", "course_id", "partner")}
        ids: dict[str, Any] = {"enrolment_id": uuid.uuid4(), "learner_id": uuid.uuid4()}
        envelopes = await people.enrolment.say([LearnerEnrolled(**about, **ids, place="online")], heard=False)
        async with listening(here.here, events.learners()):
            await people.enrolment.heard(envelopes)
        assert (await people.post(f"{RUN}/cancel")).status_code == 409
