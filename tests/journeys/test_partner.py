"""A fifth partner joins a running stack and sends it everything that will not do; the other four notice nothing."""

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from aiokafka import AIOKafkaProducer

from deploy.demo.data import bearer
from deploy.local.service import command
from deploy.local.stack import Stack
from tests import strangers
from tests.delivery import until
from tests.integration.corpus import COURSE, event, records
from tests.journeys.web import Web
from tests.strangers import Client, client

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

LIMIT = 20  # KURSNETT_QUARANTINE_REFUSED as it is when nobody sets it


async def intake(web: Web, slug: str, key: str) -> list[dict[str, Any]]:
    """Everything that came from a partner, oldest first, page by page as its own program would read it."""
    address, items = f"/api/catalogue/v1/partners/{slug}/intake", []
    while address:
        page = await web.http.get(address, headers=bearer(key))
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        following = page.links.get("next", {}).get("url", "")
        address = f"{urlsplit(following).path}?{urlsplit(following).query}" if following else ""
    return items[::-1]


async def say(who: Client, slug: str, *said: tuple[str, dict[str, Any]]) -> None:
    values = [json.dumps(event(slug, kind, data)).encode() for kind, data in said]
    await strangers.write(who, f"partners.{slug}.courses", *values)


async def publish(who: Client, slug: str, code: str) -> None:
    await say(who, slug, ("CoursePublished", {"code": code, **COURSE}))


async def test_what_a_fifth_partner_sends_is_told_to_it_alone(stack: Stack, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        web = Web(stack.places, http)
        slug, other = f"femte-{web.word}", f"fjerde-{web.word}"
        file = tmp_path / "partners.toml"
        file.write_text("".join(f'[{one}]\nname = "{one}"\narenas = ["mosjoen", "online"]\n' for one in (slug, other)))
        said = json.loads(await command(web.places, "catalogue", "partners", "sync", str(file), "--json"))
        assert {"torgar", "mosjoen", "kunnskapsparken", "ytre-helgeland"} <= set(said["not_in_file"])
        mine, theirs = (next(one for one in said["partners"] if one["slug"] == name) for name in (slug, other))
        who = client(mine["kafka"])

        async def taken(name: str, key: str, count: int) -> bool:
            return [one["outcome"] for one in await intake(web, name, key)].count("taken") == count

        began = time.monotonic()
        await publish(who, slug, "SV-1")
        await until(lambda: taken(slug, mine["key"], 1), within_s=60)
        assert time.monotonic() - began < 60

        async def reads_its_feed(key: str) -> int:
            answer = await web.http.get(f"/api/notifier/v1/partners/{slug}/feed", headers=bearer(key))
            return answer.status_code

        async def opens_its_own_alone() -> bool:
            return [await reads_its_feed(one["key"]) for one in (mine, theirs)] == [200, 403]

        await until(opens_its_own_alone)

        wrong = list(records(slug))
        async with AIOKafkaProducer(**who, max_request_size=1_000_000) as producer:
            for one in wrong:
                topic = f"partners.{slug}.courses"
                await producer.send_and_wait(topic, one.value, key=one.key, headers=list(one.headers), partition=0)

        # The others: over Kafka under a log-in of its own, and over HTTP, while all that is being looked at.
        await publish(client(theirs["kafka"]), other, "SV-1")
        run = await web.http.put(
            f"/api/catalogue/v1/partners/torgar/courses/F-{web.word}",
            json=COURSE,
            headers=bearer(await web.token("torgar", "torgar")),
        )
        assert run.status_code == 201
        await until(lambda: taken(other, theirs["key"], 1))

        async def all_told() -> bool:
            return len(await intake(web, slug, mine["key"])) == len(wrong) + 1

        await until(all_told, within_s=60)
        outcomes = Counter((one["outcome"], one["reason"]) for one in await intake(web, slug, mine["key"]))
        kept = len(wrong) - LIMIT - 1  # one has a key that is too long to be kept
        assert outcomes["parked", "quarantined"] == kept
        states = {
            one["slug"]: one for one in json.loads(await command(web.places, "catalogue", "partners", "list", "--json"))
        }
        assert (states[slug]["state"], states[slug]["waiting"]) == ("quarantined", kept)
        assert {one["state"] for name, one in states.items() if name != slug} == {"active"}
        assert sum(one["waiting"] for name, one in states.items() if name != slug) == 0

        # Let go on, each of the rest is refused with its own reason, and its next good course is taken.
        await command(web.places, "catalogue", "partners", "release", slug)
        await publish(who, slug, "SV-2")
        await until(lambda: taken(slug, mine["key"], 2), within_s=60)
        reasons = Counter(one["reason"] for one in await intake(web, slug, mine["key"]) if one["outcome"] == "refused")
        assert reasons == Counter(one.reason for one in wrong)
        status = (await web.http.get(f"/api/catalogue/v1/partners/{slug}/status", headers=bearer(mine["key"]))).json()
        assert (status["state"], status["waiting"]) == ("active", 0)
        assert status["ways"]["kafka"]["last_24_hours"] == {
            "received": len(wrong) + 2,
            "taken": 2,
            "refused": len(wrong),
            "parked": 0,
        }


async def test_what_a_partner_takes_away_from_people_costs_nobody_a_seat_before_it_has_decided(stack: Stack) -> None:
    async with httpx2.AsyncClient(base_url=stack.places.gateway, timeout=20) as http:
        web = Web(stack.places, http)
        slug = f"angrer-{web.word}"
        arenas = ("--arena", "bronnoysund", "--json")
        made = json.loads(await command(web.places, "catalogue", "partners", "add", slug, "--name", slug, *arenas))
        who, key = client(made["kafka"]), bearer(made["key"])
        start = datetime.now(UTC) + timedelta(days=30)
        times = {"starts_at": start.isoformat(), "ends_at": (start + timedelta(hours=6)).isoformat()}

        def run(capacity: int, **rules: Any) -> tuple[str, dict[str, Any]]:
            places = [{"arena": "bronnoysund", "capacity": capacity}]
            return "OfferingPublished", {"course_code": "SV-1", "key": "v27", **times, **rules, "places": places}

        async def status() -> Any:
            return (await web.http.get(f"/api/catalogue/v1/partners/{slug}/status", headers=key)).json()

        async def published() -> str | None:
            found = [one["offering_id"] for one in (await status())["offerings"]]
            if not found or (await web.http.get(f"/api/enrolment/v1/offerings/{found[0]}")).status_code != 200:
                return None
            return str(found[0])

        await say(who, slug, ("CoursePublished", {"code": "SV-1", **COURSE}), run(2))
        offering = await until(published, within_s=60)
        names = [f"{one}-{web.word}" for one in ("ada", "bo", "cy")]
        enrolments = [(await web.enrol(offering, name)).json()["enrolment_id"] for name in names]

        async def states() -> list[str]:
            found = []
            for name, one in zip(names, enrolments, strict=True):
                token = bearer(await web.token(name))
                found.append((await web.http.get(f"/api/enrolment/v1/enrolments/{one}", headers=token)).json()["state"])
            return found

        # Fewer seats than are taken: nobody loses one.
        await say(who, slug, run(1, requires_approval=True))

        async def heard_of() -> Any:
            shown = (await web.http.get(f"/api/enrolment/v1/offerings/{offering}")).json()
            return shown if shown["requires_approval"] else None

        [place] = (await until(heard_of, within_s=30))["places"]
        assert (place["taken"], place["free"]) == (2, 0)
        assert await states() == ["associated", "associated", "queued"]

        # Retracted, as soon as the catalogue has heard of them: it waits, and all three have what they had.
        async def counted() -> bool:
            return [one["people"] for one in (await status())["offerings"]] == [3]

        await until(counted, within_s=30)
        gone = {"course_code": "SV-1", "key": "v27", "reason": "Læreren er syk."}
        await say(who, slug, ("OfferingRetracted", gone))

        async def waits() -> Any:
            return (await status())["retractions"]

        [asked] = await until(waits, within_s=30)
        assert (asked["key"], asked["people"], asked["reason"]) == ("v27", 3, "Læreren er syk.")
        address = f"/api/catalogue/v1/partners/{slug}/courses/SV-1/offerings/v27/cancel"
        answer = await web.http.post(address, headers=key)
        assert (answer.status_code, answer.json()["people"]) == (409, 3)
        assert (await web.http.get(answer.json()["type"])).json()["slug"] == "people-enrolled"
        assert await states() == ["associated", "associated", "queued"]

        # Confirmed: each of them is told.
        await say(who, slug, ("OfferingRetracted", {**gone, "reason": "", "confirmed": True}))

        async def all_gone() -> bool:
            return await states() == ["cancelled"] * 3

        await until(all_gone, within_s=30)
        for name in names:
            last = (await web.mails(name, 2))[-1]
            assert "er avlyst" in last["subject"]
        assert (await status())["retractions"] == []
