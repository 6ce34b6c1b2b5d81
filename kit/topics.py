"""Makes the declared topics at the broker: the only place that creates a topic."""

import asyncio
import time
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from contracts.topics import Topic

WAITING_S = 60.0  # a broker that starts beside us is there well before


class TopicsError(Exception):
    """The broker did not make the topics; the message says which and why."""


async def declare(bootstrap: str, topics: Sequence[Topic]) -> list[str]:
    """Create the topics that are not there; returns the names of those made. Safe to run again and by many at once.

    Waits up to 60 s for a broker that is still starting. Raises TopicsError.
    """
    admin = await _admin(bootstrap)
    try:
        brokers = len((await admin.describe_cluster())["brokers"])
        copies = min(3, brokers)  # three copies where there are three brokers, one on a single one
        response = await admin.create_topics(
            [
                NewTopic(
                    name=topic.name,
                    num_partitions=topic.partitions,
                    replication_factor=copies,
                    topic_configs={**topic.settings, "min.insync.replicas": str(max(1, copies - 1))},
                )
                for topic in topics
            ]
        )
    finally:
        await admin.close()
    made = []
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code == 0:
            made.append(name)
        elif error is not TopicAlreadyExistsError:
            raise TopicsError(f"the broker refused to make {name}: {error.__name__}")
    return made


async def _admin(bootstrap: str) -> AIOKafkaAdminClient:
    deadline = time.monotonic() + WAITING_S
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
        except (KafkaError, OSError) as error:
            await admin.close()
            if time.monotonic() > deadline:
                raise TopicsError(f"no Kafka broker answers at {bootstrap}: start it, then run this again") from error
            await asyncio.sleep(0.5)
        except BaseException:  # given up on by a caller who does not wait so long
            await admin.close()
            raise
        else:
            return admin
