"""A course as search engines read it: schema.org in JSON-LD, for `GET /courses/{id}` and for the pages that show it."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from contracts.arenas import ONLINE, place_name
from kit.pages.languages import tag
from services.catalogue.domain import eqf
from services.catalogue.languages import Texts, texts_in
from services.catalogue.search import BASE
from services.catalogue.store import Row

KIND = "application/ld+json"
MODES = {"onsite": "onsite", "online": "online", "hybrid": "blended", "blended": "blended"}
MOST_OF_A_DAY = timedelta(hours=14)
STATUS = {"scheduled": "https://schema.org/EventScheduled", "cancelled": "https://schema.org/EventCancelled"}


def course(
    row: Row, runs: Sequence[Row], provider: str, language: str, public_url: str, now: datetime
) -> tuple[bytes, Texts]:
    """The course with its runs that have not ended, and the texts in it. `<` is escaped, for pages that embed it."""
    content = json.loads(row["content"])
    texts = texts_in(content, language)
    catalogue = f"{public_url}{BASE}"
    level = content.get("level")
    about = {
        "@context": "https://schema.org",
        "@type": "Course",
        "@id": f"{catalogue}/courses/{row['id']}",
        "url": f"{public_url}/kurs/{row['id']}",
        "courseCode": row["code"],
        "name": texts.title.text,
        "description": next(
            (one.text for one in (texts.summary, texts.description, texts.title) if one), texts.title.text
        ),
        "inLanguage": tag(content.get("language", "nb")),
        "provider": {"@type": "Organization", "name": provider, "identifier": row["partner"]},
    }
    if not row["withdrawn"]:
        about["offers"] = [offer(content.get("price_ore", 0))]
    if content.get("subjects"):
        about["about"] = content["subjects"]
    if texts.prerequisites:
        about["coursePrerequisites"] = texts.prerequisites.text
    if content.get("funded_by"):
        about["funder"] = {"@type": "Organization", "name": content["funded_by"]}
    if level:
        about["educationalLevel"] = f"NKR {level}, EQF {eqf(level)}"
    if content.get("studiepoeng"):
        points = float(content["studiepoeng"])
        about["numberOfCredits"] = {"@type": "QuantitativeValue", "value": points, "unitText": "ECTS"}
    mode = MODES[content.get("delivery_mode", "onsite")]
    whole = [(run, json.loads(run["content"])) for run in runs]
    instances = [
        {
            "@type": "CourseInstance",
            "name": texts.title.text,
            "courseMode": mode,
            "inLanguage": about["inLanguage"],
            **instance(run, of, language, catalogue, texts.title.text),
        }
        for run, of in whole
        if datetime.fromisoformat(of["ends_at"]) > now
    ]
    if instances:
        about["hasCourseInstance"] = instances
    return json.dumps(about, ensure_ascii=False).replace("<", "\\u003c").encode(), texts


def offer(price_ore: int) -> dict[str, Any]:
    kroner, ore = divmod(price_ore, 100)
    kind = "Paid" if price_ore else "Free"
    return {"@type": "Offer", "category": kind, "price": f"{kroner}.{ore:02}", "priceCurrency": "NOK"}


def instance(run: Row, content: Mapping[str, Any], language: str, catalogue: str, name: str) -> dict[str, Any]:
    address = f"{catalogue}/offerings/{run['id']}"
    places = content["places"]
    told: dict[str, Any] = {
        "@id": address,
        "startDate": content["starts_at"],
        "endDate": content["ends_at"],
        "eventStatus": STATUS[run["state"]],
        "maximumAttendeeCapacity": sum(place["capacity"] for place in places),
        "location": [location(place["arena"], language, address) for place in places],
    }
    if content.get("sessions"):
        told["subEvent"] = [
            {"@type": "Event", "name": name, "startDate": one["starts_at"], "endDate": one["ends_at"]}
            for one in content["sessions"]
        ]
    hours = workload(content)
    if hours:
        told["courseWorkload"] = hours
    return told


def workload(content: Mapping[str, Any]) -> str | None:
    """The time spent in meetings as ISO 8601 has it, such as `PT7H30M`; search engines want it.

    None where nobody has said when they are: a run over many days does not last all day and night.
    """
    meetings = content.get("sessions") or [content]
    length = sum(
        (datetime.fromisoformat(one["ends_at"]) - datetime.fromisoformat(one["starts_at"]) for one in meetings),
        timedelta(),
    )
    if not content.get("sessions") and length > MOST_OF_A_DAY:
        return None
    hours, minutes = divmod(int(length.total_seconds()) // 60, 60)
    return f"PT{hours}H" + (f"{minutes}M" if minutes else "")


def location(arena: str, language: str, address: str) -> dict[str, Any]:
    name = place_name(arena, language if language in ONLINE else "nb")
    if arena == "online":
        return {"@type": "VirtualLocation", "name": name, "url": address}
    where = {"@type": "PostalAddress", "addressLocality": name, "addressCountry": "NO"}
    return {"@type": "Place", "name": name, "address": where}
