"""What enrolment keeps about a person, all of it in one document, for that person: to read, and to take along."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from kit.database import Connection
from services.enrolment.store import erasures, seats
from services.enrolment.store import personal as store


class Login(BaseModel):
    """How the issuer calls a person."""

    issuer: str
    subject: str


class Personal(BaseModel):
    """All that is kept here. `learner_id` is what other services call the person; none before the first enrolment.

    `role`: what an operator has let them do beside what everybody may. `about` is where purposes, recipients and
    times are told in words.
    """

    service: str = "enrolment"
    made_at: datetime
    about: str
    login: Login
    learner_id: UUID | None
    enrolments: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    role: dict[str, Any] | None


PLACE = "/personvern"


async def personal(conn: Connection, login: tuple[str, str], public_url: str) -> Personal:
    """The document of whoever logs in so."""
    learner_id = await erasures.learner(conn, *login)
    return Personal(
        made_at=await seats.now(conn),
        about=public_url + PLACE,
        login=Login(issuer=login[0], subject=login[1]),
        learner_id=learner_id,
        enrolments=await store.enrolments(conn, learner_id) if learner_id else [],
        sessions=await store.sessions(conn, *login),
        role=await store.role(conn, *login),
    )
