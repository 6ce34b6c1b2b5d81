"""Gives a stranger a user at the broker: what it may do there, how much of it, and the password it logs in with.

aiokafka's own admin client knows none of this. The requests are Kafka's: AlterUserScramCredentials (KIP-554),
AlterClientQuotas (KIP-546), CreateAcls. Only an operator's command sends them.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Float64,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

MECHANISM = "SCRAM-SHA-512"
GIVING_S = 15.0
ITERATIONS = 4096  # the least that Kafka takes: a password of 256 random bits is not guessed, however fast one tries
RESOURCES = {"topic": 2, "group": 3}  # this and what follows are Kafka's numbers
LITERAL, PREFIXED = 3, 4
OPERATIONS = {"read": 3, "write": 4}  # each also lets its holder see that the resource is there
ALLOW = 3
SHA_512 = 2


class AccessError(Exception):
    """The broker gave no user; the message says why."""


@dataclass(frozen=True)
class Right:
    """One thing that a user may do; with `prefixed`, to everything whose name begins so."""

    operation: Literal["read", "write"]
    resource: Literal["topic", "group"]
    name: str
    prefixed: bool = False


async def give(
    bootstrap: str, user: str, password: str, rights: Sequence[Right], bytes_per_s: Mapping[str, float]
) -> None:
    """Let `user` log in with this password, and do what `rights` say, and nothing that nobody gave it before.

    `bytes_per_s` has Kafka's names: producer_byte_rate, consumer_byte_rate, of all the user's connections to one
    broker together. Safe to run again: there is one password a user, and the one before it lets nobody in from now
    on. The password comes last, so that whoever can log in has its limits. Raises AccessError.
    """
    allowing = [_allowing(user, right) for right in rights]
    await _ask(bootstrap, [*allowing, AlterQuotas(user, bytes_per_s), AlterScram(user, password)])


async def allow(bootstrap: str, rights: Mapping[str, Sequence[Right]]) -> None:
    """Let users (name -> rights) do this too, with the password that they have. Raises AccessError."""
    await _ask(bootstrap, [_allowing(user, right) for user, theirs in rights.items() for right in theirs])


async def _ask(bootstrap: str, requests: Sequence[Any]) -> None:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        async with asyncio.timeout(GIVING_S):
            await client.bootstrap()
            for request in requests:
                await _send(client, request)
    except (KafkaError, OSError, TimeoutError) as error:
        told = f"Kafka at {bootstrap} does not answer ({type(error).__name__}): start it, then run this again"
        raise AccessError(told) from error
    finally:
        await client.close()


def _allowing(user: str, right: Right) -> CreateAclsRequest:
    return CreateAclsRequest(
        RESOURCES[right.resource],
        right.name,
        PREFIXED if right.prefixed else LITERAL,
        f"User:{user}",
        "*",
        OPERATIONS[right.operation],
        ALLOW,
    )


async def _send(client: AIOKafkaClient, request: Any) -> None:
    answer: Response = await client.send(client.get_random_node(), request)  # any broker asks the controller
    said = answer.to_object()
    for one in said.get("creation_responses") or said.get("entries") or said.get("results") or [said]:
        if one["error_code"]:
            raise AccessError(f"the broker did not make the user: {for_code(one['error_code']).__name__}")


class AlterQuotasResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    """What became of each entry."""

    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "entries",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("entity", Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))),
            ),
        ),
    )


class AlterQuotasStruct(RequestStruct):  # type: ignore[misc]
    """Version 0 on the wire."""

    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = AlterQuotasResponse
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))),
                ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))),
            ),
        ),
        ("validate_only", Boolean),
    )


class AlterQuotas(Request[AlterQuotasStruct]):  # type: ignore[misc]
    """Sets how many bytes a second a user may send or take."""

    API_KEY = 49

    def __init__(self, user: str, bytes_per_s: Mapping[str, float]) -> None:
        self._entry = ([("user", user)], [(key, value, False) for key, value in bytes_per_s.items()])

    def build(self, struct: type[AlterQuotasStruct]) -> AlterQuotasStruct:
        return struct([self._entry], False)


class AlterScramResponse(Response):  # type: ignore[misc]
    """What became of each user."""

    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterScramStruct(RequestStruct):  # type: ignore[misc]
    """Version 0 on the wire."""

    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = AlterScramResponse
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields))),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )

    def __repr__(self) -> str:  # aiokafka logs what it sends, and with these bytes one could log in
        return "AlterScram"


class AlterScram(Request[AlterScramStruct]):  # type: ignore[misc]
    """Sets a user's one password. The broker is sent what it checks a log-in by, never the password."""

    API_KEY = 51

    def __init__(self, user: str, password: str) -> None:
        salt = secrets.token_bytes(32)
        salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
        self._upsertion: tuple[Any, ...] = (user, SHA_512, ITERATIONS, salt, salted, {})

    def build(self, struct: type[AlterScramStruct]) -> AlterScramStruct:
        return struct([], [self._upsertion], {})
