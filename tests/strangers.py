"""Plain Kafka clients with a partner's log-in: each tries one thing, and raises what Kafka says when it may not."""

from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError, for_code

from kit import access

Client = dict[str, Any]  # what a client is made with


def client(kafka: dict[str, str], **more: Any) -> Client:
    """A client's arguments, from what `partners add --json` says under `kafka`."""
    return {
        "bootstrap_servers": kafka["bootstrap"],
        "security_protocol": kafka["security_protocol"],
        "sasl_mechanism": kafka["mechanism"],
        "sasl_plain_username": kafka["username"],
        "sasl_plain_password": kafka["password"],
        **more,
    }


async def write(who: Client, topic: str, *values: bytes, **more: Any) -> None:
    """Write the values, each when the one before is there; `{}` when none is given."""
    producer = AIOKafkaProducer(**who, **more)
    try:
        await producer.start()
        for value in values or (b"{}",):
            await producer.send_and_wait(topic, value, key=b"k")
    finally:
        await producer.stop()


async def write_once(who: Client, topic: str) -> None:
    await write(who, topic, enable_idempotence=True)


async def write_in_a_transaction(who: Client, topic: str) -> None:
    producer = AIOKafkaProducer(**who, transactional_id=f"{topic}.t")
    try:
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"{}", key=b"k")
    finally:
        await producer.stop()


async def read(who: Client, topic: str, group: str | None = None) -> None:
    """Read a topic that has a record, until it comes; as a member of a group, say how far."""
    consumer = AIOKafkaConsumer(topic, **who, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        await consumer.start()
        record = await consumer.getone()
        if group:
            await consumer.commit(
                {TopicPartition(topic, record.partition): record.offset}
            )  # who comes next reads it too
    finally:
        await consumer.stop()


async def join(who: Client, group: str) -> None:
    """Read what every partner may, as a member of a group."""
    await read(who, "catalogue.courses", group)


async def look_up(who: Client, group: str) -> None:
    """How far a group has read."""
    await _asking(who, lambda admin: admin.list_consumer_group_offsets(group))


async def see(who: Client, topic: str) -> None:
    if topic not in await _asking(who, lambda admin: admin.list_topics()):
        raise TopicAuthorizationFailedError(topic)


async def make(who: Client, topic: str) -> None:
    _refused((await _asking(who, lambda admin: admin.create_topics([NewTopic(topic, 1, 1)]))).topic_errors[0][1])


async def delete(who: Client, topic: str) -> None:
    _refused((await _asking(who, lambda admin: admin.delete_topics([topic]))).topic_error_codes[0][1])


async def configure(who: Client, topic: str) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "86400000"})
    [answer] = await _asking(who, lambda admin: admin.alter_configs([resource]))
    _refused(answer.resources[0][0])


async def take_a_right(who: Client, topic: str) -> None:
    """Let everybody read a topic."""
    right = access.Right("read", "topic", topic)
    answer = await _asking(who, lambda admin: admin._send_request(access._allowing("*", right)))
    _refused(answer.creation_responses[0][0])


async def change_password(who: Client, user: str) -> None:
    answer = await _asking(who, lambda admin: admin._send_request(access.AlterScram(user, "known-to-the-attacker")))
    _refused(answer.results[0][1])


async def raise_limit(who: Client, user: str) -> None:
    more = access.AlterQuotas(user, {"producer_byte_rate": 1e9})
    answer = await _asking(who, lambda admin: admin._send_request(more))
    _refused(answer.entries[0][0])


def _refused(code: int) -> None:
    if code:
        raise for_code(code)()


async def _asking(who: Client, question: Any) -> Any:
    admin = AIOKafkaAdminClient(**who)
    try:
        await admin.start()
        return await question(admin)
    finally:
        await admin.close()
