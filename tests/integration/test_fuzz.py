"""Whatever a program makes of the OpenAPI documents, the services answer as these say; on a real PostgreSQL."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.enrolment import LearnerEnrolled
from kit import http
from services.catalogue.app import ROUTERS as CATALOGUE
from services.enrolment.app import ROUTERS
from services.notifier import events
from tests.calling import calling_notifier, listening_hooks
from tests.delivery import Servers
from tests.integration import test_catalogue, test_enrolment_http
from tests.integration.corpus import COURSE, DATES
from tests.integration.test_notifier_calendar_feed import address
from tests.integration.test_notifier_feed import as_person, person
from tests.web import served

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)
# The same requests in each run, so that CI finds nothing by chance; and all kinds, others in each run, for 90 s.
SHORT = ("--phases", "fuzzing,stateful", "--max-examples", "8", "--seed", "1")
LONG = ("--max-time", "90")
how_long = pytest.mark.parametrize(
    "how_long",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
pytestmark = pytest.mark.anyio


async def asked(app: http.Application, token: str, known: dict[str, Any], folder: Path, *how: str) -> str:
    """What schemathesis says when an answer is not as the document says; empty when all are.

    `known`: what is taken for a parameter, always, or most often one of a list: else each request would end at a 404.
    """
    several = {name: values for name, values in known.items() if isinstance(values, list)}
    lines = [f"[dictionaries.d{n}]\nvalues = {json.dumps(values)}" for n, values in enumerate(several.values())]
    lines += ["[parameters]", *(f'"{name}" = "{known[name]}"' for name in known.keys() - several.keys())]
    lines += [f'"{name}" = {{ dictionary = "d{n}", probability = 0.8 }}' for n, name in enumerate(several)]
    config = folder / "schemathesis.toml"
    config.write_text("\n".join(lines))
    async with served(app) as address:
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{address}/openapi.json", "--header", f"Authorization: Bearer {token}"),
            *("--checks", ",".join(CHECKS), "--generation-database", "none", "--no-color", *how),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asking.communicate()
    return said.decode() if asking.returncode else ""


@how_long
@pytest.mark.parametrize("who", ["learner", "partner"])
async def test_enrolment_answers_as_its_document_says(
    servers: Servers, tmp_path: Path, who: str, how_long: Sequence[str]
) -> None:
    many = {"requests_per_minute": 1_000_000, "most_live_enrolments": 1_000, "enrolments_per_hour": 1_000_000}
    async with test_enrolment_http.world(servers, **many) as here:
        app = http.build(here.running, ROUTERS)
        here.issuer.serve(app.state.keys)
        now = datetime.now(UTC)
        day = timedelta(days=1)
        offerings = [
            await here.offering(rules, online=1, mosjoen=0)
            for rules in (
                {},
                {},
                {"priority_groups": ["ansatt"], "on_lapse": "back_of_queue"},
                {"periods": [{"group": "ansatt", "opens_at": now, "closes_at": now + day}]},
                {"periods": [{"opens_at": now + day, "closes_at": now + 2 * day}]},
                {"requires_approval": True},
            )
        ]
        learners = [f"learner-{n}" for n in range(30)] if who == "partner" else []
        made = [await here.enrol(offerings[-1], one) for one in learners]  # for the partner to let in or turn away
        first = await here.enrol(offerings[0], "ola")
        made += [await here.enrol(offering_id, "kari") for offering_id in offerings]
        await here.asking.post(f"{first.headers['location']}/withdraw", headers=here.signed("ola"))  # kari's offer
        known = {
            "path.offering_id": [str(one) for one in offerings],
            "path.enrolment_id": [one.json()["enrolment_id"] for one in (first, *made) if one.status_code == 201],
            "body.places[*]": ["online", "mosjoen"],
            "body.name": ["Kari Nordmann", "Ola"],
            "body.group": ["ansatt"],
            "body.reason": ["For ansatte."],
        }
        signed = here.partner("torgar") if who == "partner" else here.signed("kari")
        part = ("--include-tag", "partners") if who == "partner" else ("--exclude-path-regex", "/live$")  # never ends
        wrong = await asked(app, signed["authorization"].removeprefix("Bearer "), known, tmp_path, *part, *how_long)
        assert not wrong, wrong


@how_long
async def test_the_catalogue_answers_as_its_document_says(
    servers: Servers, tmp_path: Path, how_long: Sequence[str]
) -> None:
    async with test_catalogue.world(servers) as here:
        app = http.build(here.here, CATALOGUE)
        here.issuer.serve(app.state.keys)
        course, _ = await here.put("SV-1", COURSE), await here.put("SV-2", COURSE)
        offering = await here.put("SV-1/offerings/v27", DATES)
        known = {
            "path.partner": here.partner,  # always: to name another is refused before anything else is looked at
            "path.code": ["SV-1", "SV-2"],
            "path.key": ["v27", "h27"],
            "path.course_id": [course.json()["course_id"]],
            "path.offering_id": [offering.json()["offering_id"]],
            "body.subjects[*]": ["bygg", "helse"],
            "body.places[*].arena": ["online", "mosjoen"],
        }
        wrong = await asked(app, here.key, known, tmp_path, *how_long)
        assert not wrong, wrong


@how_long
@pytest.mark.parametrize("who", ["learner", "partner"])
async def test_the_notifier_answers_as_its_document_says(
    servers: Servers, tmp_path: Path, who: str, how_long: Sequence[str]
) -> None:
    async with listening_hooks() as hooks, calling_notifier(servers, hooks) as here:
        await here.course_is_known()
        seated = LearnerEnrolled(**here.about(await person(here, "kari")), place="mosjoen")
        await here.hear(events.enrolments, [seated])
        calendar = await address(here, "ola")  # whom kari, who asks, cannot take it from
        webhooks = [(await here.webhook(path))["id"] for path in ("/one", "/two")]
        await here.happens(here.created(), seated)  # what is owed to the webhooks
        known = {
            "path.partner": "torgar",  # always: to name another is refused before anything else is looked at
            "path.webhook_id": webhooks,
            "path.notice_id": [str(row["id"]) for row in await here.rows("SELECT id FROM notices")],
            "path.secret": [calendar.rpartition("/")[2].removesuffix(".ics")],
            "body.url": [hooks.url(f"/{n}") for n in range(3)],
            "body.events[*]": ["*", "LearnerEnrolled", "CourseCreated"],
            "body.email": ["kari@example.no"],
            "body.phone": ["+4791234567"],
        }
        of_partners = ("--include-tag", "webhooks", "--include-tag", "feed")
        others = ("--exclude-tag", "webhooks", "--exclude-tag", "feed", "--exclude-path-regex", "/live$")  # never ends
        signed, part = (here.signed(), of_partners) if who == "partner" else (as_person(here, "kari"), others)
        token = signed["authorization"].removeprefix("Bearer ")
        wrong = await asked(here.app, token, known, tmp_path, *part, *how_long)
        assert not wrong, wrong
