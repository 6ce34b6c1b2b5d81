"""What a partner's log-in at Kafka lets it do, tried on the real broker by plain clients: who, what and where."""

import asyncio
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from contracts.topics import SERVICES, TOPICS, partner_courses, partner_feed
from deploy.local.kafka import PARTNERS
from deploy.local.stack import Stack
from kit import access, topics
from kit.database import connect
from kit.settings import Settings
from services.catalogue import logins
from services.catalogue import operating as catalogue
from services.catalogue.domain import Rule
from services.catalogue.members import Member
from services.catalogue.settings import CatalogueSettings
from tests import strangers, web
from tests.delivery import Servers, until
from tests.strangers import Client, client

pytestmark = pytest.mark.anyio

DENIED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
# What is tried, on what, and whether it is allowed to partner a, partner b, and whoever is at the operators' listener.
# That the operator may shows that the attempt itself is right, and is denied to the others for who they are. The order
# counts: what is taken away comes last.
MATRIX: list[tuple[Callable[[Client, str], Awaitable[None]], str, bool, bool, bool]] = [
    (strangers.write, "partners.{a}.courses", True, False, True),
    (strangers.write, "partners.{b}.courses", False, True, True),
    (strangers.write, "catalogue.courses", False, False, True),
    (strangers.write, "enrolment.enrolments", False, False, True),
    (strangers.write_once, "partners.{a}.courses", True, False, True),
    (strangers.write_once, "partners.{b}.courses", False, True, True),
    (strangers.write_in_a_transaction, "partners.{a}.courses", False, False, True),
    (strangers.read, "catalogue.courses", True, True, True),
    (strangers.read, "partners.{a}.courses", False, False, True),
    (strangers.read, "partners.{b}.courses", False, False, True),
    (strangers.write, "partners.{a}.feed", False, False, True),
    (strangers.read, "partners.{a}.feed", True, False, True),
    (strangers.read, "partners.{b}.feed", False, True, True),
    (strangers.read, "catalogue.partners", False, False, True),
    (strangers.read, "enrolment.contacts", False, False, True),
    (strangers.see, "catalogue.courses", True, True, True),
    (strangers.see, "partners.{a}.courses", True, False, True),
    (strangers.see, "partners.{b}.courses", False, True, True),
    (strangers.see, "partners.{a}.feed", True, False, True),
    (strangers.see, "partners.{b}.feed", False, True, True),
    (strangers.see, "enrolment.contacts", False, False, True),
    (strangers.see, "catalogue.parked", False, False, True),
    (strangers.join, "{a}.site", True, False, True),
    (strangers.join, "{b}.site", False, True, True),
    (strangers.join, "{a}", False, False, True),
    (strangers.join, "catalogue.partners", False, False, True),
    (strangers.look_up, "{a}.site", True, False, True),
    (strangers.look_up, "{b}.site", False, True, True),
    (strangers.make, "partners.{a}.more", False, False, True),
    (strangers.configure, "partners.{a}.courses", False, False, True),
    (strangers.configure, "partners.{a}.feed", False, False, True),
    (strangers.configure, "catalogue.courses", False, False, True),
    (strangers.raise_limit, "partner-{b}", False, False, True),
    (strangers.take_a_right, "partners.{b}.courses", False, False, True),
    (strangers.delete, "partners.{a}.more", False, False, True),
    (strangers.delete, "partners.{a}.feed", False, False, True),
    (strangers.delete, "partners.{a}.courses", False, False, True),
    (strangers.change_password, "partner-{a}", False, False, True),
]
PRINCIPALS = ("a", "b", "operator")
CASES = [
    pytest.param(attempt, where, who, allowed, id=f"{who}-{attempt.__name__}-{where}")
    for attempt, where, *may in MATRIX
    for who, allowed in zip(PRINCIPALS, may, strict=True)
]


@dataclass(frozen=True)
class Doors:
    """A broker of its own, where nothing that is written or taken away is in anybody's way, and two partners there."""

    inner: str
    partners: str
    names: dict[str, str]  # a and b -> slug
    clients: dict[str, Client]  # a, b and operator

    def settings(self, database: Settings | None = None) -> CatalogueSettings:
        here = {
            "kafka_bootstrap": self.inner,
            "kafka_partners_bootstrap": self.partners,
            "kafka_partners_security": "SASL_PLAINTEXT",
        }
        return CatalogueSettings(**((database or web.settings()).model_dump() | here))

    async def let_in(self, name: str) -> Client:
        """A partner with a topic and a log-in that has been seen to work."""
        await topics.declare(self.inner, [partner_courses(name)])
        kafka = await logins.give(self.settings(), name)
        assert kafka is not None
        await until(lambda: lets_in(client(kafka)))
        return client(kafka)

    async def feed(self, name: str) -> None:
        """A partner's feed with something to read, as the notifier makes and writes it."""
        await topics.declare(self.inner, [partner_feed(name)])
        await strangers.write(self.clients["operator"], partner_feed(name).name)


def slug() -> str:
    return f"p-{uuid.uuid4().hex[:12]}"


async def lets_in(who: Client) -> bool:
    try:
        await strangers.see(who, "catalogue.courses")
    except KafkaConnectionError:
        return False
    return True


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with Stack.somewhere(tmp_path_factory.mktemp("partners") / "home", programs=("kafka",)) as stack:
        made = Doors(
            stack.places.address("kafka"),
            stack.places.address("kafka-partners"),
            {"a": slug(), "b": slug()},
            {"operator": {"bootstrap_servers": stack.places.address("kafka")}},
        )
        asyncio.run(furnish(made))
        yield made


async def furnish(doors: Doors) -> None:
    await topics.declare(doors.inner, TOPICS)
    for topic in ("catalogue.courses", "catalogue.partners", "enrolment.contacts"):
        await strangers.write(doors.clients["operator"], topic)  # there is something to read
    for letter, name in doors.names.items():
        doors.clients[letter] = await doors.let_in(name)
        await doors.feed(name)


@pytest.mark.parametrize(("attempt", "where", "who", "may"), CASES)
async def test_the_matrix_of_principals_topics_and_operations(
    doors: Doors, attempt: Callable[[Client, str], Awaitable[None]], where: str, who: str, may: bool
) -> None:
    trying = attempt(doors.clients[who], where.format(**doors.names))
    async with asyncio.timeout(20):
        if may:
            await trying
        else:
            with pytest.raises(DENIED):
                await trying


async def test_a_log_in_alone_lets_nobody_do_anything(doors: Doors) -> None:
    who = await doors.let_in(slug())
    user, password = f"partner-{slug()}", "shown-once"
    await access.give(doors.inner, user, password, [], logins.BYTES_PER_S)
    nobody = who | {"sasl_plain_username": user, "sasl_plain_password": password}
    await until(lambda: authenticates(nobody))
    with pytest.raises(TopicAuthorizationFailedError):
        await strangers.see(nobody, "catalogue.courses")


async def authenticates(who: Client) -> bool:
    try:
        return await lets_in(who)
    except TopicAuthorizationFailedError:
        return True


async def test_a_topic_of_somebody_else_answers_as_one_that_is_not_there(doors: Doors) -> None:
    who = await doors.let_in(slug())
    for topic in (partner_courses(doors.names["b"]), partner_courses("nobody")):
        with pytest.raises(TopicAuthorizationFailedError):
            await strangers.write(who, topic.name)


WRONG = {
    "wrong password": {"sasl_plain_password": "guessed"},
    "unknown user": {"sasl_plain_username": "partner-nobody"},
    "a weaker mechanism": {"sasl_mechanism": "PLAIN"},
    "no log-in": {"security_protocol": "PLAINTEXT"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_who_does_not_log_in_rightly_does_not_get_in_and_locks_nobody_out(
    doors: Doors, wrong: dict[str, str]
) -> None:
    name = slug()
    who = await doors.let_in(name)
    topic = partner_courses(name).name
    for _ in range(5):
        with pytest.raises((KafkaConnectionError, UnsupportedSaslMechanismError)):
            await strangers.write(who | wrong, topic)
    await strangers.write(who, topic)


async def database(servers: Servers) -> Settings:
    """The settings of a catalogue's new database."""
    return await servers.database("catalogue")


async def test_a_new_password_shuts_out_the_one_before_it_and_nobody_else(servers: Servers, doors: Doors) -> None:
    settings = doors.settings(await database(servers))
    name, other = slug(), slug()
    made, beside = [await catalogue.add(settings, one, "Ny", None, ["online"]) for one in (name, other)]
    assert made["kafka"].keys() == {"bootstrap", "security_protocol", "mechanism", "username", "password"}
    old = client(made["kafka"])
    await until(lambda: lets_in(old))
    with pytest.raises(Rule, match="is a partner already"):
        await catalogue.add(settings, name, "Ny", None, ["online"])
    assert await lets_in(old), "a slug that is taken costs its partner nothing"

    again = await catalogue.rotate(settings, name, False)
    assert again["kafka"]["username"] == made["kafka"]["username"]
    assert again["key"] != made["key"]
    await until(lambda: lets_in(client(again["kafka"])))
    with pytest.raises(KafkaConnectionError):
        await strangers.write(old, partner_courses(name).name)
    await strangers.write(client(again["kafka"]), partner_courses(name).name)
    await strangers.write(client(beside["kafka"]), partner_courses(other).name)


async def test_a_partner_of_before_there_was_a_listener_gets_its_log_in_by_a_new_key(
    servers: Servers, doors: Doors
) -> None:
    settings = doors.settings(await database(servers))
    name = slug()
    before = settings.model_copy(update={"kafka_partners_bootstrap": ""})
    made = await catalogue.add(before, name, "Gammel", None, ["online"])
    assert made["key"]
    assert made["kafka"] is None
    assert "KURSNETT_KAFKA_PARTNERS_BOOTSTRAP" in catalogue.connecting(name, None)
    again = await catalogue.rotate(settings, name, False)
    await until(lambda: lets_in(client(again["kafka"])))
    await strangers.write(client(again["kafka"]), partner_courses(name).name)


async def test_a_partner_reads_its_feed_in_a_group_of_its_own_and_nobody_elses(doors: Doors) -> None:
    mine, theirs = slug(), slug()
    logged_in = {name: await doors.let_in(name) for name in (mine, theirs)}
    for name in logged_in:
        await doors.feed(name)
        await strangers.read(logged_in[name], partner_feed(name).name, f"{name}.site")
    for group in (None, f"{theirs}.site", f"{mine}.site"):
        with pytest.raises(DENIED):
            await strangers.read(logged_in[theirs], partner_feed(mine).name, group)
    with pytest.raises(GroupAuthorizationFailedError):
        await strangers.read(logged_in[mine], partner_feed(mine).name, f"{theirs}.site")


@pytest.mark.parametrize("in_file", [True, False])
async def test_a_partner_of_before_there_were_feeds_may_read_its_own_after_a_sync_with_the_password_that_it_has(
    servers: Servers, doors: Doors, monkeypatch: pytest.MonkeyPatch, in_file: bool
) -> None:
    settings = doors.settings(await database(servers))
    name, other = slug(), slug()
    feed = partner_feed(name).name
    with monkeypatch.context() as before:
        rights = logins.rights
        before.setattr(logins, "rights", lambda slug: [one for one in rights(slug) if not one.name.endswith(".feed")])
        who = client((await catalogue.add(settings, name, "Gammel", None, ["online"]))["kafka"])
    await catalogue.add(settings, other, "Ny", None, ["online"])
    await until(lambda: lets_in(who))
    await doors.feed(name)
    with pytest.raises(TopicAuthorizationFailedError):
        await strangers.see(who, feed)
    members = [Member(name, "Gammel", None, ("online",))] if in_file else [Member(other, "Ny", None, ("online",))]
    await catalogue.synced(settings, members, True)
    with pytest.raises(TopicAuthorizationFailedError):
        await strangers.see(who, feed)
    steps, _ = await catalogue.synced(settings, members, False)
    assert [one.outcome for one in steps] == ["unchanged"]

    async def sees() -> bool:
        try:
            await strangers.see(who, feed)
        except TopicAuthorizationFailedError:
            return False
        return True

    await until(sees)
    await strangers.read(who, feed, f"{name}.feed")


async def test_a_broker_that_is_away_leaves_everything_as_it_was(servers: Servers, doors: Doors) -> None:
    settings = doors.settings(await database(servers))
    name = slug()
    await catalogue.add(settings, name, "Ny", None, ["online"])

    async def keys() -> Any:
        conn = await connect(settings, "operator")
        try:
            return await conn.fetch("SELECT * FROM partner_keys ORDER BY 1, 2")
        finally:
            await conn.close()

    known = await keys()
    away = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    with pytest.raises(access.AccessError, match="does not answer"):
        await catalogue.rotate(away, name, True)
    assert await keys() == known


@pytest.mark.parametrize("name", SERVICES)
async def test_no_partner_is_named_as_a_service_whose_groups_would_be_its_own(doors: Doors, name: str) -> None:
    with pytest.raises(Rule, match="name of a service"):
        await logins.give(doors.settings(), name)


async def test_a_partner_that_floods_is_slowed_and_nobody_else(doors: Doors) -> None:
    flood, calm = slug(), slug()
    flooding, quiet = await doors.let_in(flood), await doors.let_in(calm)
    # Kafka counts over ten seconds: 2.5 MB may come at once, and what is more waits until its time.
    values = [b"x" * 900_000] * 4 + [b"{}"]

    async def took_s(who: Client, topic: str, *values: bytes) -> float:
        began = time.monotonic()
        await strangers.write(who, topic, *values, max_request_size=1_000_000)
        return time.monotonic() - began

    slow = asyncio.create_task(took_s(flooding, partner_courses(flood).name, *values))
    beside = []
    while not slow.done():
        beside.append(await took_s(quiet, partner_courses(calm).name, b"{}"))
    unhindered = await took_s(doors.clients["operator"], partner_courses(flood).name, *values)
    assert slow.result() > 2
    assert unhindered < 2
    assert sorted(beside)[len(beside) // 2] < 0.5


async def test_the_partners_listener_takes_so_many_connections_and_leaves_the_services_theirs(doors: Doors) -> None:
    who = await doors.let_in(slug())
    host, _, port = doors.partners.partition(":")
    with ExitStack() as held:
        for _ in range(int(PARTNERS["listener.name.partners.max.connections"])):
            held.enter_context(socket.create_connection((host, int(port))))
        waiting = asyncio.create_task(strangers.see(who, "catalogue.courses"))
        for _ in range(20):
            await strangers.see(doors.clients["operator"], "catalogue.courses")
        assert not waiting.done()
    async with asyncio.timeout(20):
        await waiting
