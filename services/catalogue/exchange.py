"""What courses, runs and providers look like in OOAPI v6 (OEAPI 6.0), made of what the catalogue keeps.

After https://github.com/open-education-api/specification, `oeapi.yaml` 6.0: names, enumerations and what is required.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from pydantic import BaseModel

from contracts.arenas import place_name
from kit.pages.languages import tag
from services.catalogue.domain import eqf

# A partner has a slug and OOAPI asks for a UUID: the same one each time, made of the slug.
PARTNERS = UUID("8d2f8f0e-5a0b-5d0e-9a53-9a0f1f5d4c11")
MODES = {"onsite": "presential", "online": "online", "hybrid": "hybrid", "blended": "blended"}
# Only levels that mean the same. OOAPI's list is open: what has no counterpart there has our own name with `x-`.
LEVELS = {"6.2": "bachelor", "7": "master", "8": "doctoral"}
STATES = {"scheduled": "active", "cancelled": "cancelled"}


class Words(BaseModel):
    language: str
    value: str


class Code(BaseModel):
    codeType: str
    code: str


class StudyLoad(BaseModel):
    studyLoadUnit: str
    value: float


class Address(BaseModel):
    addressType: str
    city: str


class Cost(BaseModel):
    costType: str
    amount: str
    currency: str


class EnrolmentPeriod(BaseModel):
    startDateTime: datetime
    endDateTime: datetime
    targetGroups: list[str] | None = None


class Organisation(BaseModel):
    organisationId: UUID
    primaryCode: Code
    organisationType: str = "root"
    name: list[Words]
    otherCodes: list[Code] | None = None


class Course(BaseModel):
    courseId: UUID
    primaryCode: Code
    name: list[Words]
    description: list[Words] | None = None
    admissionRequirements: list[Words] | None = None
    studyLoad: list[StudyLoad] | None = None
    modesOfDelivery: list[str]
    teachingLanguages: list[str]
    level: str | None = None
    link: str
    organisationId: UUID
    organisation: Organisation | None = None
    ext: dict[str, Any]


class CourseOffering(BaseModel):
    courseOfferingId: UUID
    primaryCode: Code
    name: list[Words]
    state: str
    startDateTime: datetime
    endDateTime: datetime
    teachingLanguages: list[str]
    modesOfDelivery: list[str]
    maxNumberStudents: int
    minNumberStudents: int | None = None
    resultExpected: bool = False
    link: str
    enrolmentPeriods: list[EnrolmentPeriod] | None = None
    addresses: list[Address] | None = None
    priceInformation: list[Cost] | None = None
    courseId: UUID
    course: Course | None = None
    organisationId: UUID
    ext: dict[str, Any]


class Page(BaseModel):
    pageSize: int
    pageNumber: int
    hasPreviousPage: bool
    hasNextPage: bool
    totalPages: int


class Courses(Page):
    items: list[Course]


class CourseOfferings(Page):
    items: list[CourseOffering]


class Organisations(Page):
    items: list[Organisation]


class Operation(BaseModel):
    verbs: list[str] = ["GET"]
    path: str


class Expands(BaseModel):
    expandableObjects: list[str]
    path: str


class Service(BaseModel):
    contactEmail: str
    specification: str
    documentation: str
    supportedConsumers: list[dict[str, str]] = []
    supportedOperations: list[Operation]
    supportedExpands: list[Expands]


def organisation_id(slug: str) -> UUID:
    return uuid5(PARTNERS, slug)


def level_of(level: str | None) -> str | None:
    return None if level is None else LEVELS.get(level, f"x-nkr-{level.lower()}")


def words(texts: Mapping[str, str] | None) -> list[Words] | None:
    """A text in each language that it is written in; none rather than an empty list, as OOAPI wants it."""
    found = [Words(language=tag(language), value=text) for language, text in (texts or {}).items() if text]
    return found or None


def organisation(row: Mapping[str, Any]) -> Organisation:
    orgnr = [Code(codeType="x-orgnr", code=row["orgnr"])] if row["orgnr"] else None
    return Organisation(
        organisationId=organisation_id(row["slug"]),
        primaryCode=Code(codeType="organisation_id", code=row["slug"]),
        name=[Words(language="nb", value=row["name"])],
        otherCodes=orgnr,
    )


def course(course_id: UUID, partner: str, code: str, content: Mapping[str, Any], site: str) -> Course:
    """`site`: the address below which the pages for people are."""
    points = content.get("studiepoeng")
    level = content.get("level")
    ext = {"subjects": content.get("subjects", []), "nkrLevel": level, "eqfLevel": eqf(level)}
    ext |= {"fundedBy": content.get("funded_by")}
    return Course(
        courseId=course_id,
        primaryCode=Code(codeType="identifier", code=code),
        name=words(content["title"]) or [],
        description=words(content.get("description")) or words(content.get("summary")),
        admissionRequirements=words(content.get("prerequisites")),
        # A Norwegian study point is a credit of ECTS.
        studyLoad=[StudyLoad(studyLoadUnit="ects", value=float(Decimal(points)))] if points else None,
        modesOfDelivery=[MODES[content.get("delivery_mode", "onsite")]],
        teachingLanguages=[tag(content.get("language", "nb"))],
        level=level_of(level),
        link=f"{site}/kurs/{course_id}",
        organisationId=organisation_id(partner),
        ext={name: value for name, value in ext.items() if value},
    )


def offering(row: Mapping[str, Any], content: Mapping[str, Any], of: Course, price_ore: int) -> CourseOffering:
    """A run (`content`) of the course `of`, on whose page it stands; its places become addresses, `online` none."""
    kroner, ore = divmod(price_ore, 100)
    places = content["places"]
    periods = [
        EnrolmentPeriod(
            startDateTime=one["opens_at"],
            endDateTime=one["closes_at"],
            targetGroups=[one["group"]] if one.get("group") else None,
        )
        for one in content.get("periods", [])
    ]
    visited = [place["arena"] for place in places if place["arena"] != "online"]
    return CourseOffering(
        courseOfferingId=row["id"],
        primaryCode=Code(codeType="offering_code", code=row["key"]),
        name=of.name,
        state=STATES[row["state"]],
        startDateTime=content["starts_at"],
        endDateTime=content["ends_at"],
        teachingLanguages=of.teachingLanguages,
        modesOfDelivery=of.modesOfDelivery,
        maxNumberStudents=sum(place["capacity"] for place in places),
        minNumberStudents=content.get("minimum"),
        link=of.link,
        enrolmentPeriods=periods or None,
        addresses=[Address(addressType="teaching", city=place_name(one, "nb")) for one in visited] or None,
        priceInformation=[Cost(costType="total_costs", amount=f"{kroner}.{ore:02}", currency="NOK")],
        courseId=of.courseId,
        organisationId=of.organisationId,
        ext={"places": places},
    )
