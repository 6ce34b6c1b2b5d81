"""What a local stack is made of: every program, what it waits for, and how it knows the others."""

from collections.abc import Callable, Sequence

from deploy.local.kafka import Kafka
from deploy.local.places import Places
from deploy.local.postgres import Postgres
from deploy.local.processes import Program


def programs(places: Places, names: Sequence[str]) -> list[Program]:
    """The named programs, in the order in which they start."""
    makers: dict[str, Callable[[], Program]] = {
        "postgres": Postgres(places).program,
        "kafka": Kafka(places).program,
    }
    return [makers[name]() for name in makers if name in names]
