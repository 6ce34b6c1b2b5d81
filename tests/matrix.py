"""Who may do what: reads `matrix.txt`, and asks the real applications, on their own databases, as each of the six."""

import itertools
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fastapi.routing import iter_route_contexts
from httpx2 import AsyncBaseTransport, AsyncClient, Request, Response

from contracts.enrolment import LearnerEnrolled
from contracts.topics import SERVICES
from kit import http, passes
from kit.auth import Caller
from kit.database import Database
from kit.pages import static
from kit.pages.visitors import HEADER
from kit.partners import Told, digest_of, keep
from kit.passes import Visitor
from kit.running import Running, Shown
from services.catalogue import app as catalogue
from services.catalogue import operating as catalogue_commands
from services.catalogue.exchange import organisation_id
from services.catalogue.store import retractions
from services.catalogue.store.courses import judge
from services.enrolment import app as enrolment
from services.notifier import app as notifier
from services.notifier import events as notifier_events
from services.notifier.tokens import Link, Signer
from services.notifier.unsubscribe import UNDO_LASTS
from tests.calling import calling_notifier, listening_hooks
from tests.delivery import Servers
from tests.integration import test_catalogue, test_enrolment_http, test_enrolment_links
from tests.integration.corpus import COURSE, DATES
from tests.issuing import issuing
from tests.notifying import PRIVATE, START
from tests.visiting import HTML
from tests.web import ISSUER, Issuer, beside_the_document

WHO = ("nobody", "learner A", "learner B", "partner A", "partner B", "operator")
ROUTERS = {"catalogue": catalogue.ROUTERS, "enrolment": enrolment.ROUTERS, "notifier": notifier.ROUTERS}
PROGRAMS = ("/api/", "/ooapi")  # answered in JSON, and asked by a bearer token
KEYS = passes.generate()
CSRF = "of-this-session"
A, B = "torgar", "mosjoen"  # the partners; the catalogue's have names of their own


@dataclass(frozen=True)
class Row:
    """One route, and what is told to each of `WHO`."""

    method: str
    path: str
    told: tuple[str, ...]
    object: str
    body: str

    @property
    def route(self) -> tuple[str, str]:
        return self.method, self.path.partition("?")[0]

    @property
    def of_people(self) -> bool:
        """Whether it is a page, and so asked with a pass."""
        return not self.path.startswith(PROGRAMS) or "unsubscribe" in self.path

    @property
    def is_form(self) -> bool:
        """Whether only our own form does it."""
        return self.of_people and self.method == "POST" and self.told[0] == "401"


@cache
def rows(service: str) -> tuple[Row, ...]:
    """The rows of a service, with those of each service. Raises ValueError for a row that cannot be read."""
    found: list[Row] = []
    section = ""
    for line in (Path(__file__).parent / "matrix.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        if section in (service, "each service") and re.match(r"[A-Z]+ /", line):
            route, told, *rest = (part.strip() for part in line.split(" | "))
            codes = told.split() * (1 if " " in told else len(WHO))
            if len(codes) != len(WHO):
                raise ValueError(f"not {len(WHO)} codes: {line}")
            method, path = route.split()
            object_, body = [*rest, "", ""][:2]
            found.append(Row(method, path, tuple(codes), object_.strip("-"), body))
    return tuple(found)


def routes(service: str) -> set[tuple[str, str]]:
    """(method, path) of everything that the application answers."""
    app = http.routed(service, ROUTERS[service])
    return {
        (method, str(context.path))
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if method != "HEAD"  # it does what GET does
    }


class Briefly(AsyncBaseTransport):
    """An application without a socket; of an answer without end only the head is taken."""

    def __init__(self, app: http.Application) -> None:
        self._app = app

    async def handle_async_request(self, request: Request) -> Response:
        body = await request.aread()
        start: dict[str, Any] = {}
        chunks: list[bytes] = []
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                chunks.append(message.get("body", b""))

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.url.scheme,
            "path": unquote(request.url.path),
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": (request.url.host, 80),
            "client": ("127.0.0.1", 1),
        }
        await self._app(scope, receive, send)
        return Response(start["status"], headers=start["headers"], content=b"".join(chunks), request=request)


Given = Callable[[], Awaitable[dict[str, str]]]


@dataclass
class Here:
    """One service with its database. `makes` has, for each object of the table, what makes it and tells its names."""

    service: str
    running: Running
    app: http.Application
    issuer: Issuer
    makes: dict[str, Given]
    partners: tuple[str, str] = (A, B)
    keys: dict[str, str] = field(default_factory=dict)  # who -> the key that they may send in place of a token

    def caller(self, who: str) -> Caller:
        """As whom each of `WHO` is known."""
        a, b = self.partners
        return {
            "learner A": Caller(ISSUER, "kari"),
            "learner B": Caller(ISSUER, "ola"),
            "partner A": Caller(ISSUER, "of-a", partner=a),
            "partner B": Caller(ISSUER, "of-b", partner=b),
            "operator": Caller(ISSUER, "drift", role="operator"),
        }[who]

    def bearer(self, who: str) -> dict[str, str]:
        if who == "nobody":
            return {}
        caller = self.caller(who)
        claims: dict[str, Any] = {
            "sub": caller.subject,
            "kursnett_partner": caller.partner,
            "kursnett_role": caller.role,
        }
        return {"authorization": f"Bearer {self.issuer.token(**claims)}"}

    def visit(self, who: str) -> dict[str, str]:
        return {} if who == "nobody" else {HEADER: passes.sign(KEYS[0], Visitor(self.caller(who), CSRF))}

    def proof(self, row: Row, who: str) -> dict[str, str]:
        return self.visit(who) if row.of_people else self.bearer(who)

    def takes_key(self, row: Row) -> bool:
        """Whether a partner may send its own key here, as the document says."""
        route = self.app.openapi()["paths"].get(row.path.partition("?")[0], {}).get(row.method.lower(), {})
        return {"PartnerKey": []} in route.get("security", [])

    async def given(self, row: Row) -> dict[str, str]:
        return await self.makes[row.object]() if row.object else {}

    async def ask(
        self, row: Row, named: dict[str, str], proof: dict[str, str], csrf: str = CSRF, accept: str = ""
    ) -> Response:
        """The answer to one row, about the object of these names."""
        address = re.sub(r"\{(\w+)(:\w+)?\}", lambda found: quote(named[found[1]], safe=""), row.path)
        body: Any = json.loads(row.body) if row.body else None
        headers = {"accept": accept or (HTML if row.of_people else "application/json")} | proof
        content, fields, files = None, None, None
        if row.of_people and row.method == "POST":
            fields = {"csrf": csrf} | {name: _filled(value, named) for name, value in (body or {}).items()}
            files = {
                name[1:]: ("f.csv", fields.pop(name), "text/csv") for name in list(fields) if name[0] == "@"
            } or None
        elif isinstance(body, str):
            headers["content-type"], content = "text/csv", body.encode()
        elif body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps({name: _filled(value, named) for name, value in body.items()}).encode()
        async with AsyncClient(transport=Briefly(self.app), base_url="http://kursnett.test") as asking:
            answer = await asking.request(
                row.method, address, headers=headers, content=content, data=fields, files=files
            )
        if not row.of_people:
            wrong = beside_the_document(self.app.openapi(), answer)
            assert not wrong, f"{row.method} {row.path}: {wrong}"
        return answer

    async def state(self) -> dict[str, str]:
        """A digest of each table of the database; of sessions without when they were used."""
        async with self.running.database.reading() as conn:
            tables = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
            found = {}
            for name in (row["tablename"] for row in tables):
                shown = "to_jsonb(t) - 'seen_at'" if name == "sessions" else "to_jsonb(t)"
                query = f"SELECT count(*) || md5(string_agg(r, '|' ORDER BY r)) FROM (SELECT ({shown})::text AS r FROM {name} AS t) AS s"  # noqa: E501
                found[name] = str(await conn.fetchval(query))
            return found


def _filled(value: Any, named: dict[str, str]) -> Any:
    """A field of a body; `{name}` is one of the object's."""
    return named.get(value[1:-1], value) if isinstance(value, str) else value


def told(answer: Response) -> str:
    """An answer as the table has it."""
    leads = answer.headers.get("location", "")
    return "login" if answer.status_code == 303 and leads.startswith("/logg-inn") else str(answer.status_code)


async def _slug() -> dict[str, str]:
    return {"slug": "not-found"}


async def _file() -> dict[str, str]:
    return {"of": static.digest(), "name": "site.css"}


COMMON: dict[str, Given] = {"slug": _slug, "file": _file}


async def _keys(database: Database) -> dict[str, str]:
    """Keys of the two partners, as the catalogue tells of them."""
    keys = {A: "kn_a", B: "kn_b"}
    told = [Told(slug, False, 1, [digest_of(key).hex()]) for slug, key in keys.items()]
    await database.run(lambda conn: keep(conn, told))
    return {"partner A": keys[A], "partner B": keys[B]}


def _operated(here: Here, consumer: str) -> Here:
    """With what operators have in their hands: a consumer, and a record that is parked."""
    here.running.shown = Shown([consumer])
    database, count = here.running.database, itertools.count(1)

    async def parked() -> dict[str, str]:
        number = await database.run(
            lambda conn: conn.fetchval(
                """
                INSERT INTO parked (consumer, topic, partition, "offset", headers, value, reason, detail, state)
                VALUES ($1, 'any', 0, $2, '[]', '{}', 'failed', 'a test', 'parked') RETURNING id
                """,
                f"{here.service}.{consumer}",
                next(count),
            )
        )
        return {"number": str(number), "act": "discard", "about": str(uuid.uuid4())}

    async def listener() -> dict[str, str]:
        return {"name": consumer, "act": "pause"}

    async def held() -> dict[str, str]:
        return {"slug": here.partners[0], "act": "release"}

    here.makes |= {"parked": parked, "consumer": listener, "held": held}
    return here


@asynccontextmanager
async def _catalogue(servers: Servers) -> AsyncIterator[Here]:
    async with test_catalogue.world(servers, pass_public_key=KEYS[1]) as there:
        other = f"p-{uuid.uuid4().hex[:12]}"
        made = await catalogue_commands.add(there.settings, other, "Skipperskolen", None, ["online"])
        courses = 0

        async def course() -> dict[str, str]:
            nonlocal courses
            courses += 1
            code = f"SV-{courses}"
            known = (await there.put(code, COURSE)).json()
            run = (await there.put(f"{code}/offerings/v27", DATES)).json()
            ours = {"partner": there.partner, "code": code, "key": "v27"} | known | run
            return {name: str(value) for name, value in ours.items()} | {
                "courseId": str(known["course_id"]),
                "courseOfferingId": str(run["offering_id"]),
                "organisationId": str(organisation_id(there.partner)),
            }

        async def retracted() -> dict[str, str]:
            made = await course()
            ids = (uuid.UUID(made["course_id"]), uuid.UUID(made["offering_id"]))
            await there.here.database.run(lambda conn: retractions.ask(conn, *ids, "", "1"))
            return made

        async def on_hold() -> dict[str, str]:
            made = await course()
            run = uuid.UUID(made["offering_id"])
            await there.here.database.run(lambda conn: judge(conn, run, "too_few", 1, 8))
            return made

        app = http.build(there.here, catalogue.ROUTERS)
        there.issuer.serve(app.state.keys)
        here = Here(
            "catalogue",
            there.here,
            app,
            there.issuer,
            {"course": course, "retracted": retracted, "on_hold": on_hold} | COMMON,
            (there.partner, other),
            {"partner A": there.key, "partner B": made["key"]},
        )
        yield _operated(here, "partners")


@asynccontextmanager
async def _enrolment(servers: Servers) -> AsyncIterator[Here]:
    many = {"most_live_enrolments": 10_000, "requests_per_minute": 100_000, "enrolments_per_hour": 100_000}
    keys = {"pass_private_key": KEYS[0], "pass_public_key": KEYS[1]}
    async with issuing() as login:
        login.url = ISSUER
        async with test_enrolment_http.world(servers, issuer_inside=login.inside, **keys, **many) as there:

            async def offering() -> dict[str, str]:
                return {"offering_id": str(await there.offering(online=2))}

            async def enrolled(**rules: Any) -> dict[str, str]:
                made = await there.offering(online=2, rules=rules)
                answer = await there.enrol(made, "kari")
                return {"offering_id": str(made), "enrolment_id": answer.json()["enrolment_id"]}

            async def pending() -> dict[str, str]:
                return await enrolled(requires_approval=True)

            async def offer() -> dict[str, str]:
                made = await there.offering(online=1)
                first, second = [await there.enrol(made, who) for who in ("per", "kari")]
                await there.asking.post(f"{first.headers['location']}/withdraw", headers=there.signed("per"))
                return {"offering_id": str(made), "enrolment_id": second.json()["enrolment_id"]}

            async def link() -> dict[str, str]:
                await offer()
                token = (await test_enrolment_links.links(there))["accept"]
                return {"token": token, "verb": "godta", "cut": token}

            async def erasure() -> dict[str, str]:
                answer = await there.asking.delete("/api/enrolment/v1/me", headers=there.signed("eva"))
                return {"request_id": answer.json()["request_id"]}

            app = http.build(there.running, enrolment.ROUTERS)
            there.issuer.serve(app.state.keys)
            makes: dict[str, Given] = {
                "offering": offering,
                "enrolment": enrolled,
                "pending": pending,
                "offer": offer,
                "link": link,
                "erasure": erasure,
            }
            known = await _keys(there.database)
            here = Here("enrolment", there.running, app, there.issuer, makes | COMMON, keys=known)
            yield _operated(here, "courses")


@asynccontextmanager
async def _notifier(servers: Servers) -> AsyncIterator[Here]:
    async with listening_hooks() as hooks, calling_notifier(servers, hooks, pass_public_key=KEYS[1]) as there:
        await there.course_is_known()
        signer, kari = Signer(PRIVATE), Caller(ISSUER, "kari")
        hour = START + timedelta(days=900)

        async def address() -> dict[str, str]:
            return {"partner": A, "url": hooks.url(f"/{uuid.uuid4().hex}")}

        async def webhook() -> dict[str, str]:
            for row in await there.rows("SELECT id FROM webhooks"):  # a partner has only so many
                await there.ask("DELETE", f"/{row['id']}")
            return {"partner": A, "webhook_id": (await there.webhook())["id"]}

        async def notice() -> dict[str, str]:
            learner = uuid.uuid4()
            await there.contact_is_known(learner, "kari@example.no", login=kari.key)
            await there.hear(notifier_events.enrolments, [LearnerEnrolled(**there.about(learner), place="mosjoen")])
            [row] = await there.rows("SELECT id FROM notices ORDER BY created_at DESC LIMIT 1")
            return {"notice_id": str(row["id"])}

        async def contact() -> dict[str, str]:
            await there.contact_is_known(uuid.uuid4(), "kari@example.no", login=kari.key)
            return {}

        async def calendar() -> dict[str, str]:
            token = {"authorization": f"Bearer {there.issuer.token(sub='kari')}"}
            made = await there.asking.post("/api/notifier/v1/me/calendar", headers=token)
            return {"secret": made.json()["url"].rpartition("/")[2].removesuffix(".ics")}

        async def stop() -> dict[str, str]:
            return {"token": signer.token("unsubscribe", Link(kari.key, ("changes",), hour))}

        async def undo() -> dict[str, str]:
            return {"token": signer.token("undo", Link(kari.key, ("changes",), hour + UNDO_LASTS))}

        makes: dict[str, Given] = {
            "address": address,
            "webhook": webhook,
            "notice": notice,
            "contact": contact,
            "calendar": calendar,
            "stop": stop,
            "undo": undo,
        }
        app = http.build(there.here, notifier.ROUTERS)
        there.issuer.serve(app.state.keys)
        keys = await _keys(there.here.database)
        yield _operated(Here("notifier", there.here, app, there.issuer, makes | COMMON, keys=keys), "courses")


OPENED = {"catalogue": _catalogue, "enrolment": _enrolment, "notifier": _notifier}
assert OPENED.keys() == set(SERVICES)
