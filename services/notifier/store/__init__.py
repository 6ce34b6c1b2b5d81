"""Every statement the notifier asks of its database: what it knows of people and courses, and the notices it owes."""

from collections.abc import Sequence
from typing import Any


def columns(rows: Sequence[Any], names: str) -> list[list[Any]]:
    """Each of the attributes, which stand with spaces between, as one array for unnest."""
    return [[getattr(row, name) for row in rows] for name in names.split()]
