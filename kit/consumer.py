"""Listens to topics: the only caller of `broker.subscriber`; records become events, effects and offsets, in that order."""

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from contracts.envelope import Envelope, Event, Undecodable, decode, explain
from contracts.registry import BY_TYPE
from kit import trail
from kit.database import Connection
from kit.parking import Record
from pydantic import ValidationError

if TYPE_CHECKING:
    from kit.service import Running
