"""Fills a new stack: the four partners, their courses, and one full offering with people in line."""

import asyncio
import csv
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2

from deploy.local.issuer import LOGINS, Login, tokens
from deploy.local.places import Places
from deploy.local.service import command
from deploy.trouble import Trouble

COURSES = Path(__file__).with_name("courses.csv")
PARTNERS = Path(__file__).parents[1] / "partners.toml"
OSLO = ZoneInfo("Europe/Oslo")
FULL = "BYG-110"  # one place, and three who want it
ASKERS = (("kari", "Kari Nordmann"), ("ola", "Ola Hansen"), ("anne", "Anne Jakobsen"))


async def load(places: Places, say: Callable[[str], None]) -> None:
    """Put the demonstration data into a running stack; what is not part of it stays. Raises Trouble."""
    await command(places, "catalogue", "partners", "sync", str(PARTNERS))
    partners = tomllib.loads(PARTNERS.read_text(encoding="utf-8"))
    for login in LOGINS.values():
        if login.role == "operator" or login.partner:
            role = ["--role", login.role] + (["--partner", login.partner] if login.partner else [])
            await command(places, "enrolment", "people", "add", login.username, *role)
    say(f"{len(partners)} partners")
    with COURSES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    logins = [Login(slug, one["name"], partner=slug) for slug, one in partners.items()]
    keys = dict(zip(partners, await tokens(places, logins), strict=True))
    async with browser(places.gateway) as web:
        full = ""
        for row in rows:
            offering = await _publish(web, row, keys[row["partner"]])
            full = offering if row["code"] == FULL else full
        say(f"{len(rows)} courses")
        await _fill(places, web, full)
    say("one full course with two in line")


def browser(address: str) -> httpx2.AsyncClient:
    """Asks a server of this machine, and never through the network's proxy."""
    return httpx2.AsyncClient(base_url=address, timeout=20, trust_env=False)


async def _publish(web: httpx2.AsyncClient, row: dict[str, str], token: str) -> str:
    """Put one course and its offering; returns the offering's id."""
    address = f"/api/catalogue/v1/partners/{row['partner']}/courses/{row['code']}"
    course = {
        "title": {"nb": row["title"]},
        "summary": {"nb": row["summary"]},
        "prerequisites": {"nb": row["prerequisites"]} if row["prerequisites"] else {},
        "subjects": row["subjects"].split(","),
        "delivery_mode": row["mode"],
        "studiepoeng": row["studiepoeng"] or None,
        "level": row["level"] or None,
    }
    await put(web, address, course, token)
    answer = await put(web, f"{address}/offerings/host", run_of(row), token)
    return str(answer["offering_id"])


def run_of(row: dict[str, str]) -> dict[str, Any]:
    """One offering, so many weeks ahead of the Monday of this week, at nine in Oslo."""
    today = datetime.now(OSLO).replace(hour=9, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=today.weekday()) + timedelta(weeks=int(row["weeks"]))
    end = (start + timedelta(days=int(row["days"]) - 1)).replace(hour=15)
    return {
        "starts_at": start.astimezone(UTC).isoformat(),
        "ends_at": end.astimezone(UTC).isoformat(),
        "places": [
            {"arena": arena, "capacity": int(capacity)}
            for arena, _, capacity in (place.partition(":") for place in row["places"].split(","))
        ],
    }


async def _fill(places: Places, web: httpx2.AsyncClient, offering: str) -> None:
    given = await tokens(places, [Login(username, name) for username, name in ASKERS])
    await until_open(web, offering)
    for (username, name), token in zip(ASKERS, given, strict=True):
        body = {
            "places": ["mosjoen"],
            "name": name,
            "contact": {"email": f"{username}@example.org", "language": "nb"},
        }
        answer = await web.post(f"/api/enrolment/v1/offerings/{offering}/enrolments", json=body, headers=bearer(token))
        if answer.status_code not in (201, 409):  # 409: has asked before
            raise Trouble(f"{name} could not be enrolled: {told(answer)}", "See: kursnett logs enrolment")


async def until_open(web: httpx2.AsyncClient, offering: str, within_s: float = 30) -> None:
    """Wait until enrolment has heard of an offering. Raises Trouble."""
    for _ in range(int(within_s / 0.1)):
        if (await web.get(f"/api/enrolment/v1/offerings/{offering}")).status_code == 200:
            return
        await asyncio.sleep(0.1)
    raise Trouble(f"Enrolment has not heard of the offering after {within_s:.0f} s.", "See: kursnett status")


async def put(web: httpx2.AsyncClient, address: str, body: dict[str, Any], token: str) -> dict[str, Any]:
    """PUT as a partner. Raises Trouble with the problem's own words."""
    answer = await web.put(address, json=body, headers=bearer(token))
    if answer.status_code not in (200, 201):
        raise Trouble(f"{address} was not taken: {told(answer)}", "See: kursnett logs catalogue")
    found: dict[str, Any] = answer.json()
    return found


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def told(answer: httpx2.Response) -> str:
    """What a refusal says, in one line."""
    try:
        problem = answer.json()
    except ValueError:
        return f"{answer.status_code}"
    errors = "; ".join(f"{one['field']}: {one['detail']}" for one in problem.get("errors", []))
    return " ".join(
        part for part in (str(answer.status_code), problem.get("detail") or problem.get("title"), errors) if part
    )
